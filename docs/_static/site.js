// Frames follow the theme that the reader chose, as drawings do. A frame that cannot see the page is loaded again.
const DARK = "(prefers-color-scheme: dark)";

function colourFrames() {
  const chosen = document.body.dataset.theme;
  const wanted = ["light", "dark"].includes(chosen) ? chosen : "auto";
  for (const frame of document.querySelectorAll("iframe[srcdoc]")) {
    frame.original ??= frame.srcdoc;
    const shown = frame.shown ?? "auto";
    if (shown === wanted || !frame.original.includes(DARK)) continue;
    frame.shown = wanted;
    frame.srcdoc = wanted === "auto" ? frame.original : frame.original
      .replaceAll(DARK, wanted === "dark" ? "all" : "not all").replaceAll("color-scheme: light dark", `color-scheme: ${wanted}`);
  }
}

// The switch leads to the same page of another version, or to its first page where it has no such page.
function offerVersions() {
  const place = document.querySelector(".versions"), versions = window.minigradVersions ?? [];
  if (!place || versions.length < 2) return;
  const { root, page } = place.dataset, folder = new URL(`${root || "./"}x`, location).pathname.split("/").at(-2);
  const select = document.createElement("select");
  select.setAttribute("aria-label", "version");
  for (const entry of versions) {
    const here = decodeURIComponent(folder) === entry.folder;
    const label = entry.version + (entry.folder === entry.version ? "" : ` (${entry.folder})`);
    select.add(new Option(label, entry.folder, here, here));
  }
  select.addEventListener("change", () => {
    const entry = versions.find((v) => v.folder === select.value);
    location.href = `${root || "./"}../${encodeURIComponent(entry.folder)}/${entry.pages.includes(page) ? page : "index"}.html`;
  });
  place.replaceChildren("Version ", select);
}

addEventListener("DOMContentLoaded", () => {
  offerVersions();
  colourFrames();
  new MutationObserver(colourFrames).observe(document.body, { attributeFilter: ["data-theme"] });
});
