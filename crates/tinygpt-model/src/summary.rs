//! What is known of a step before the parameters change.

/// The loss and the size of the gradient of the batches of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Mean loss of all batches, nats per token.
    pub loss: f64,
    /// L2 norm of the gradient over all parameters together; unspecified where the loss is not finite.
    pub norm: f64,
}
