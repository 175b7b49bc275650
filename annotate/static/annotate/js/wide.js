// What is larger than its place (tables, formulas, a long prompt) scrolls by itself; then keys must reach it too.

/** Let Tab reach each part of a page, or of a piece of one, that scrolls. */
export function reachWide(root) {
  for (const part of root.querySelectorAll(".wide, .prompt, .table-frame")) {
    if (part.scrollWidth > part.clientWidth || part.scrollHeight > part.clientHeight + 1) part.tabIndex = 0;
  }
}
