// The words on a folded cell name it; the label that MyST-NB puts over them hides them.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("details.hide summary").forEach((s) => s.removeAttribute("aria-label"));
});
