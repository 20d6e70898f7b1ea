//! `sample` while `train` saves after every step and removes what came before.

use std::process::Stdio;

use tinygpt_train::checkpoint::{Which, locate};

use crate::program::{command, run_command};
use crate::report::{conclude, times};
use crate::world::{home, tempdir, train};

#[test]
fn a_reader_never_sees_half_a_checkpoint() {
    let dir = tempdir();
    let out_dir = dir.path().join("out");
    let mut train = train(&out_dir);
    train.args(["--max-iters", "1000000000", "--checkpoint-interval", "1"]);
    train.args(["--keep-checkpoints", "1", "--eval-interval", "1000000"]);
    let mut trainer = train.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !out_dir.join("last").exists() {
        assert!(trainer.try_wait().unwrap().is_none(), "the trainer has ended");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let (n_looks, n_samples) = (times(100, 2000), times(10, 200));
    let mut failures = Vec::new();
    for look in 0..n_looks {
        let found = locate(&out_dir, &Which::Last);
        failures.extend(found.err().map(|error| format!("look {look}: {error}")));
    }
    for sample in 0..n_samples {
        let mut read = command("sample", home());
        read.args(["--checkpoint", "last", "--num-samples", "1", "--max-new-tokens", "1"]);
        let ran = run_command(read.args(["--threads", "1", "--out-dir"]).arg(&out_dir));
        if ran.code != 0 {
            failures.push(format!("sample {sample}: code {}: {}", ran.code, ran.stderr));
        }
    }
    let is_alive = trainer.try_wait().unwrap().is_none();
    trainer.kill().unwrap();
    trainer.wait().unwrap();
    assert!(is_alive, "the trainer has ended");
    conclude("readers beside a trainer that saves every step", n_looks + n_samples, &failures);
}
