// Buttons that copy the text of a field.

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const field = document.getElementById(button.dataset.copy);
    field.select();
    // Browsers offer the clipboard on https and on the same machine only; elsewhere the text is at least selected.
    if (!navigator.clipboard) return;
    await navigator.clipboard.writeText(field.value);
    button.textContent = button.dataset.done;
  });
}
