//! What is known of a step before the parameters change.

/// The loss and the size of the gradient of the batches of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Mean loss of all batches, nats per token.
    pub loss: f64,
    /// L2 norm of the gradient over all parameters together; unspecified where the loss is not finite.
    pub norm: f64,
}

/// The mean loss over all learned targets of several batches, each with its own mean and the number of its learned
/// targets. 0 if there are none.
pub fn mean_loss(batches: &[(f32, usize)]) -> f64 {
    let n_learned = batches.iter().map(|(_, n)| n).sum::<usize>().max(1) as f64;
    // The product is exact, so equal batches have the bits of a mean of means.
    batches.iter().map(|(loss, n)| f64::from(*loss) * *n as f64 / n_learned).sum()
}
