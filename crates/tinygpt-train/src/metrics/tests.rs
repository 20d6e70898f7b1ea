//! Tests of the file of metrics: writing, full disks, resuming.

#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;

fn step(iter: u64) -> StepRecord {
    StepRecord {
        iter,
        loss: 1.5,
        learning_rate: 1e-3,
        grad_norm: 0.5,
        step_ms: 12.0,
        tokens_per_second: 1000.0,
        mfu: None,
    }
}

fn eval(iter: u64) -> EvalRecord {
    EvalRecord { iter, train_loss: 1.0, val_loss: 1.1, val_bits_per_byte: 1.6, perplexity: 3.0 }
}

fn sample(iter: u64) -> SampleRecord {
    SampleRecord { iter, text: "One day,\n\"a\" fox".to_string() }
}

/// Evaluations at 0, 4 and 8, steps 0 to 9.
fn written(dir: &Path) {
    let mut metrics = Metrics::create(dir).unwrap();
    for iter in 0..10 {
        if iter % 4 == 0 {
            metrics.eval(&eval(iter)).unwrap();
            metrics.sample(&sample(iter)).unwrap();
        }
        metrics.step(&step(iter)).unwrap();
    }
}

fn iters(dir: &Path) -> (Vec<u64>, Vec<u64>) {
    let (mut steps, mut evals) = (Vec::new(), Vec::new());
    for line in read(&dir.join(FILE_NAME)).unwrap() {
        match line {
            Line::Step(record) => steps.push(record.iter),
            Line::Eval(record) => evals.push(record.iter),
            Line::Sample(record) => assert_eq!(Some(&record.iter), evals.last()),
            other @ (Line::Skip(_) | Line::Horizon(_) | Line::Resume(_)) => panic!("{other:?}"),
        }
    }
    (steps, evals)
}

#[test]
fn lines_have_the_documented_keys() {
    let dir = tempfile::tempdir().unwrap();
    let mut metrics = Metrics::create(dir.path()).unwrap();
    metrics.step(&step(7)).unwrap();
    metrics.eval(&eval(8)).unwrap();
    metrics.sample(&sample(8)).unwrap();
    metrics.flush().unwrap();
    let text = std::fs::read_to_string(dir.path().join(FILE_NAME)).unwrap();
    assert_eq!(
        text,
        "{\"event\":\"step\",\"iter\":7,\"loss\":1.5,\"learning_rate\":0.001,\
         \"grad_norm\":0.5,\"step_ms\":12.0,\"tokens_per_second\":1000.0}\n\
         {\"event\":\"eval\",\"iter\":8,\"train_loss\":1.0,\"val_loss\":1.1,\
         \"val_bits_per_byte\":1.6,\"perplexity\":3.0}\n\
         {\"event\":\"sample\",\"iter\":8,\"text\":\"One day,\\n\\\"a\\\" fox\"}\n"
    );
}

#[test]
fn cut_back_to_the_steps_of_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path());
    // Saved by the evaluation at 8, before step 8 was made.
    drop(Metrics::resume(dir.path(), Seen { n_iters: 8, last_eval_iter: Some(8) }).unwrap());
    assert_eq!(iters(dir.path()), ((0..8).collect(), vec![0, 4, 8]));
    // Saved by a signal before the evaluation at 4: it will be made again.
    drop(Metrics::resume(dir.path(), Seen { n_iters: 4, last_eval_iter: Some(0) }).unwrap());
    assert_eq!(iters(dir.path()), ((0..4).collect(), vec![0]));
}

#[test]
#[cfg(target_os = "linux")]
fn lines_refused_by_a_full_disk_are_written_later() {
    let dir = tempfile::tempdir().unwrap();
    let mut metrics = Metrics::create(dir.path()).unwrap();
    metrics.step(&step(0)).unwrap();
    metrics.flush().unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let file = metrics.file.replace(full);
    metrics.step(&step(1)).unwrap();
    let error = metrics.flush().unwrap_err();
    assert!(chain(&error).contains("metrics.jsonl: No space left"), "{}", chain(&error));
    // Half a line that could not be cut off.
    metrics.file = file;
    metrics.file.as_mut().unwrap().write_all(b"{\"event\":\"st").unwrap();
    metrics.step(&step(2)).unwrap();
    metrics.flush().unwrap();
    assert_eq!(iters(dir.path()), (vec![0, 1, 2], vec![]));
}

#[test]
fn a_torn_last_line_is_dropped_and_writing_continues() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path());
    let path = dir.path().join(FILE_NAME);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text[..text.len() - 9]).unwrap();
    let seen = Seen { n_iters: 100, last_eval_iter: Some(100) };
    let (mut metrics, gap) = Metrics::resume(dir.path(), seen).unwrap();
    assert!(gap.unwrap().contains("9 to 99"));
    metrics.step(&step(9)).unwrap();
    drop(metrics);
    assert_eq!(iters(dir.path()), ((0..10).collect(), vec![0, 4, 8]));
}
