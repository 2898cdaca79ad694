// Volumes in NiiVue, which is unpacked when a reader asks for it.
(() => {
  const box = document.getElementById("viewer");
  if (!box) return;
  box.hidden = false;
  const COLOURS = {found: "#ffffff", missed: "#ffb000", invented: "#2f86ff"};  // as on the pictures
  const DIMMED = 400;  // white of the image below a mask, as on the pictures; by itself it is 255
  const LAYERS = {
    errors: {errors: ["found", "missed", "invented"], truth: ["found", "missed"], prediction: ["found", "invented"], "scan alone": []},
    label: {label: ["found"], "image alone": []},
  };
  const CODES = ["found", "missed", "invented"];  // 1, 2, 3
  const cases = JSON.parse(document.getElementById("viewer-cases").textContent);
  const bytes = (text) => Uint8Array.from(atob(text.trim()), (char) => char.charCodeAt(0));
  const unpacked = async (text) => {
    const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  };
  const volume = (name) => {
    const data = [...document.querySelectorAll("script.volume")].find((script) => script.dataset.name === name);
    return unpacked(data.textContent);
  };
  const colourMap = (shown) => {
    const parts = ["#000000", ...CODES.map((name) => COLOURS[name])].map((hex) =>
      [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
    return {
      R: parts.map((part) => part[0]), G: parts.map((part) => part[1]), B: parts.map((part) => part[2]),
      A: [0, ...CODES.map((name) => (shown.includes(name) ? 255 : 0))], I: [0, 1, 2, 3], labels: ["", ...CODES],
    };
  };

  const buttons = (names, about, chosen) => {
    const row = document.createElement("p");
    row.className = "tools";
    row.setAttribute("role", "group");
    row.setAttribute("aria-label", about);
    for (const name of names) {
      const button = Object.assign(document.createElement("button"), {type: "button", textContent: name});
      button.addEventListener("click", () => {
        for (const other of row.children) other.setAttribute("aria-pressed", String(other === button));
        chosen(name);
      });
      row.append(button);
    }
    return row;
  };

  const open = async (button) => {
    button.disabled = true;
    button.textContent = "Opening …";
    const script = document.createElement("script");
    script.textContent = new TextDecoder().decode(await unpacked(document.getElementById("viewer-bundle").textContent));
    document.head.append(script);
    const canvas = document.createElement("canvas");
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    const frame = document.createElement("div");
    frame.className = "canvas";
    frame.append(canvas);
    const viewer = new niivue.Niivue({
      backColor: [0, 0, 0, 1], isRadiologicalConvention: true, multiplanarForceRender: true,
      multiplanarLayout: niivue.MULTIPLANAR_TYPE.GRID, crosshairWidth: 0.4, crosshairWidthUnit: "percent",
      isNearestInterpolation: true, show3Dcrosshair: true, dragAndDropEnabled: false, loadingText: "", logLevel: "error",
      scrollRequiresFocus: true,
    });
    const layers = document.createElement("div");
    let shown;
    const draw = (layer) => {
      const parts = LAYERS[shown.kind][layer];
      viewer.volumes[1].setColormapLabel(colourMap(parts));
      viewer.volumes[0].cal_max = parts.length ? DIMMED : 255;
      viewer.updateGLVolume();
      canvas.dataset.layer = layer;
    };
    const show = async (title) => {
      canvas.dataset.ready = "";
      shown = cases.find((each) => each.title === title);
      canvas.setAttribute("aria-label", `${title}: three planes and a rendering`);
      const [image, mask] = await Promise.all([volume(shown.image), volume(shown.mask)]);
      for (const old of [...viewer.volumes].reverse()) viewer.removeVolume(old);
      viewer.addVolume(await niivue.NVImage.new(image, `${shown.image}.nii`, "gray", 1));
      viewer.addVolume(await niivue.NVImage.new(mask, `${shown.mask}.nii`, "gray", 0.8));
      viewer.setSliceType(viewer.sliceTypeMultiplanar);
      const row = buttons(Object.keys(LAYERS[shown.kind]), "What lies over the image", draw);
      layers.replaceChildren(row);
      row.firstElementChild.click();
      canvas.dataset.ready = title;
    };
    const choice = buttons(cases.map((each) => each.title), "Case", show);
    button.parentElement.replaceWith(choice, layers, frame);
    await viewer.attachToCanvas(canvas);
    choice.firstElementChild.click();
  };
  const opener = document.getElementById("viewer-open");
  opener.addEventListener("click", () => open(opener).catch((error) => {
    opener.textContent = `The viewer does not run in this browser (${error.message}); it needs WebGL 2.`;
  }));
})();
