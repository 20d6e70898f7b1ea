//! The rows of the head that are learned. The others have no loss and no gradient, so they take no part
//! in its products.

/// The target of a row that is not learned. PyTorch calls this label -100.
pub const IGNORED_TARGET: u32 = u32::MAX;

/// How many of `targets` are learned.
pub fn n_learned(targets: &[u32]) -> usize {
    targets.iter().filter(|target| **target != IGNORED_TARGET).count()
}

/// The learned rows, next to each other.
pub(crate) struct Learned {
    /// Their numbers, ascending.
    rows: Vec<usize>,
    /// `[rows, C]`.
    pub(crate) x: Vec<f32>,
    /// `[rows]`.
    pub(crate) targets: Vec<u32>,
}

impl Learned {
    /// Copies the learned rows of `x` `[N, C]`; `None` if all are.
    pub(crate) fn of(x: &[f32], targets: &[u32], c: usize) -> Option<Self> {
        let rows: Vec<usize> =
            (0..targets.len()).filter(|row| targets[*row] != IGNORED_TARGET).collect();
        (rows.len() < targets.len()).then(|| Self {
            x: rows.iter().flat_map(|row| &x[row * c..][..c]).copied().collect(),
            targets: rows.iter().map(|row| targets[*row]).collect(),
            rows,
        })
    }

    /// Moves the first rows of `dx` `[N, C]`, the gradients of these rows, to their places; the others
    /// become 0.
    pub(crate) fn scatter(&self, dx: &mut [f32], c: usize) {
        // From the last one: a row never moves to the front, so it overwrites none that is still to be moved.
        let mut end = dx.len();
        for (from, &row) in self.rows.iter().enumerate().rev() {
            dx.copy_within(from * c..(from + 1) * c, row * c);
            dx[(row + 1) * c..end].fill(0.0);
            end = row * c;
        }
        dx[..end].fill(0.0);
    }
}
