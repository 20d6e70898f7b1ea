//! `--overwrite`: the earlier run stays until the first checkpoint of the new one is saved.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::common::{begun, end, resume, train, undisturbed};
use crate::program::{run_command, snapshot};

/// Whether a line is that of a step long after those that the earlier run evaluated.
fn is_late(line: &str) -> bool {
    line.strip_prefix("iter ").is_some_and(|rest| rest.trim_start().starts_with("199 "))
}

#[test]
fn a_run_that_dies_before_its_first_checkpoint_has_overwritten_nothing() {
    let begun = begun(8);
    let out_dir = begun.path().join("out");
    let before = snapshot(&out_dir);
    let endless = "--init-from scratch --overwrite --max-iters 1000000 --checkpoint-interval 1000000 \
                   --eval-interval 1000000";
    let mut over = train(&out_dir);
    over.args(endless.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = over.spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let printed: Vec<String> = lines.take_while(|line| !is_late(line)).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        printed.iter().any(|line| line.contains("--overwrite replaces the run in")),
        "{printed:?}"
    );
    assert!(printed.iter().any(|line| line.contains("2 checkpoints of steps")), "{printed:?}");
    assert!(snapshot(&out_dir) == before, "something of the earlier run is not there any more");
    // Nor has one whose numbers stop being finite.
    let wild = "--learning-rate 1e30 --min-lr 1e30 --warmup-iters 0 --grad-clip 0";
    let mut over = train(&out_dir);
    over.args(endless.split_whitespace()).args(wild.split_whitespace());
    assert_eq!(run_command(&mut over).code, 6);
    assert!(snapshot(&out_dir) == before, "something of the earlier run is not there any more");
    resume(&out_dir, 8).unwrap();
}

#[test]
fn a_run_takes_the_place_of_the_earlier_one_with_all_of_its_files() {
    let begun = begun(8);
    let out_dir = begun.path().join("out");
    fs::write(out_dir.join("checkpoints/step-00000008/state.json"), "damaged").unwrap();
    run_command(train(&out_dir).args(["--init-from", "scratch", "--overwrite", "--seed", "5"]))
        .ok();
    run_command(train(&out_dir).args(["--init-from", "scratch", "--overwrite"])).ok();
    assert_eq!(end(&out_dir).unwrap().differs_from(undisturbed()), None);
    let names = fs::read_dir(&out_dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, [".lock", "best", "checkpoints", "last", "loss.svg", "metrics.jsonl"]);
}

#[test]
fn a_model_is_not_fine_tuned_in_place_of_its_own_run() {
    let begun = begun(4);
    let out_dir = begun.path().join("out");
    let before = snapshot(&out_dir);
    for model in ["best", "last", "checkpoints/step-00000004", "../out/best"] {
        let mut over = train(&out_dir);
        over.arg("--overwrite").arg("--init-from").arg(out_dir.join(model));
        let ran = run_command(&mut over);
        assert_eq!(ran.code, 2, "{model}: {}", ran.stderr);
        assert!(ran.stderr.contains("choose another `out_dir`"), "{model}: {}", ran.stderr);
    }
    assert!(snapshot(&out_dir) == before);
}
