//! Where gradients go that are needed before the backward pass has ended.

/// Takes the gradients of a backward pass, each as soon as it is complete.
pub trait GradientSink: Send {
    /// The gradient of the parameter with this `index` in the order of [`Params`](crate::Params).
    fn ready(&mut self, index: usize, gradient: Vec<f32>);
}
