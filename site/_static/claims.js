// Shows all claims, those that fail, or those whose tolerance was revised.
document.querySelectorAll(".claims-filter button").forEach((button) => {
  button.addEventListener("click", () => {
    const wanted = button.dataset.show;
    document.querySelectorAll(".claims-filter button").forEach((other) => {
      other.setAttribute("aria-pressed", String(other === button));
    });
    document.querySelectorAll(".claims tbody tr").forEach((row) => {
      row.hidden = wanted !== "" && !row.dataset.kind.split(" ").includes(wanted);
    });
  });
});
