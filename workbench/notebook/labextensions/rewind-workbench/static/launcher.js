// A card in JupyterLab's launcher, and a command in its palette: a new notebook for an incident, from a template.
//
// A prebuilt extension as a build would make one (a module-federation container: `init` is given what JupyterLab
// shares, `get` gives the plugin), written by hand, since it is one file: no build, nothing asked of the network.
// https://jupyterlab.readthedocs.io/en/stable/extension/extension_dev.html#prebuilt-extensions
(() => {
  const COMMAND = "workbench:new-incident", CATEGORY = "Workbench";
  const ICON = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke-width="2" '
    + 'stroke-linecap="round" stroke-linejoin="round"><g class="jp-icon3 jp-icon-selectable" stroke="#616161">'
    + '<path d="M3 4v5h5"/><path d="M3.6 9A9 9 0 1 1 3 13"/><path d="M12 8v5l3 2"/></g></svg>';
  const TEMPLATE = [
    ["markdown", "# Incident\n\nWhat happened on this machine, when, and how it is known."],
    ["code", "%load_ext workbench\n\nimport workbench\nfrom workbench import Case"],
    ["markdown", "Name the directory of the case. A case is opened for reading; nothing runs in it."],
    ["code", 'case = Case("PATH/OF/THE/CASE")\ncase'],
    ["markdown", "Choose a moment on the timeline: the tabs below it show the processes, the files and the differences "
      + "of that moment. `%wb help` lists the quick ways."],
    ["code", "workbench.app(case)"],
    ["markdown", "## Findings"],
  ];
  let scope = {};

  // What JupyterLab shares under a name: the version that is loaded already, if one is.
  async function shared(name) {
    const versions = Object.values(scope[name] ?? {});
    const chosen = versions.find((each) => each.loaded) ?? versions[0];
    if (!chosen) throw new Error(`JupyterLab shares no ${name}`);
    return (await chosen.get())();
  }

  function notebook(kernel) {
    const cells = TEMPLATE.map(([cell_type, source], at) => ({
      id: `incident-${at}`, cell_type, source, metadata: {}, ...(cell_type === "code" ? { outputs: [], execution_count: null } : {}),
    }));
    const kernelspec = { name: kernel?.name ?? "python3", display_name: kernel?.display_name ?? "Python 3" };
    return { nbformat: 4, nbformat_minor: 5, metadata: { kernelspec }, cells };
  }

  // Make the notebook in a folder; it is called by the minute unless something has that name.
  async function create(app, cwd) {
    const { contents, kernelspecs } = app.serviceManager;
    await kernelspecs.ready;
    const { specs } = kernelspecs, model = await contents.newUntitled({ path: cwd, type: "notebook" });
    const content = notebook(specs?.kernelspecs?.[specs.default]);
    await contents.save(model.path, { type: "notebook", format: "json", content });
    const minute = new Date().toISOString().slice(0, 16).replace("T", "-").replace(":", "");
    const wanted = model.path.replace(/[^/]*$/, `incident-${minute}.ipynb`);
    const named = await contents.rename(model.path, wanted).catch(() => model);
    return app.commands.execute("docmanager:open", { path: named.path, factory: "Notebook" });
  }

  async function get() {
    const [{ ILauncher }, { ICommandPalette }, { LabIcon }] = await Promise.all(
      ["launcher", "apputils", "ui-components"].map((name) => shared(`@jupyterlab/${name}`)));
    const icon = new LabIcon({ name: "workbench:incident", svgstr: ICON });
    const plugin = {
      id: "rewind-workbench:launcher",
      description: "Adds a card for a new incident notebook.",
      autoStart: true,
      optional: [ILauncher, ICommandPalette],
      activate(app, launcher, palette) {
        app.commands.addCommand(COMMAND, {
          label: "New incident notebook",
          caption: "A notebook that opens a case and shows its dashboard",
          icon,
          execute: (args) => create(app, args?.cwd ?? ""),
        });
        launcher?.add({ command: COMMAND, category: CATEGORY, rank: 0 });
        palette?.addItem({ command: COMMAND, category: CATEGORY });
      },
    };
    return () => ({ __esModule: true, default: plugin });
  }

  (window._JUPYTERLAB ??= {})["rewind-workbench"] = { init: async (given) => { scope = given; }, get };
})();
