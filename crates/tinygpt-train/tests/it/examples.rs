//! The examples for users of the library, on small sizes.

#![allow(dead_code, reason = "the `main` of an example reads arguments")]

#[path = "../../examples/custom_loop.rs"]
mod custom_loop;
#[path = "../../examples/load_pretrained.rs"]
mod load_pretrained;
#[path = "../../examples/train_and_sample.rs"]
mod train_and_sample;

use std::fs;

use tinygpt_data::tales::Tales;

/// Whether the last losses are clearly below the first.
fn falls(losses: &[f32]) -> bool {
    let mean = |part: &[f32]| part.iter().sum::<f32>() / part.len() as f32;
    mean(&losses[losses.len() - 3..]) < 0.9 * mean(&losses[..3])
}

#[test]
fn train_and_sample_learns_and_writes() {
    let dir = tempfile::tempdir().unwrap();
    // The built-in recipe, with fewer stories.
    fs::create_dir(dir.path().join("tiny_tales")).unwrap();
    let recipe = r#"{ "source": { "built_in": { "generator": "tiny_tales",
        "train_documents": 200, "validation_documents": 10 } }, "encoding_type": "simple" }"#;
    fs::write(dir.path().join("tiny_tales/dataset.json"), recipe).unwrap();
    let (text, losses) = train_and_sample::train_and_sample(dir.path().into(), 20).unwrap();
    assert!(text.chars().count() > 100, "{text}");
    assert!(falls(&losses), "{losses:?}");
}

#[test]
fn a_custom_loop_learns_and_its_model_continues_a_prompt() {
    let dir = tempfile::tempdir().unwrap();
    let text = Tales::new(1337).train(40).collect::<Vec<_>>().join("\n");
    let losses = custom_loop::train(&text, dir.path(), 30).unwrap();
    assert!(falls(&losses), "{losses:?}");
    let text = load_pretrained::continue_prompt(dir.path(), "The owl", 40).unwrap();
    assert!(text.len() > 20, "{text}");
}
