// Tabs show one pane of their group; pointing at a cell anywhere brings it forward everywhere.
document.querySelectorAll('.tabs').forEach(tabs => {
  const show = () => tabs.querySelectorAll('input').forEach(input =>
    document.getElementById(input.value).classList.toggle('shown', input.checked));
  tabs.addEventListener('change', show);
  show();
});
const cells = document.querySelectorAll('[data-cell]');
const focus = id => {
  document.body.classList.toggle('focused', id !== null);
  cells.forEach(cell => cell.classList.toggle('focus', cell.dataset.cell === id));
};
cells.forEach(cell => {
  cell.addEventListener('mouseenter', () => focus(cell.dataset.cell));
  cell.addEventListener('mouseleave', () => focus(null));
});
