//! With any number of samples, the first is printed at once and memory stays bounded.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::program::{command, trained};

#[test]
fn endless_samples_begin_at_once_and_end_with_the_reader() {
    let dir = trained();
    for n in ["100000000", "2147483648", "18446744073709551615"] {
        let mut sample = command("sample", dir.path());
        sample.args(["--out-dir", "out", "--max-new-tokens", "3", "--json", "--num-samples", n]);
        let mut child = sample.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for i in 0..200 {
            let line = lines.next().unwrap().unwrap();
            assert!(line.starts_with(&format!("{{\"index\":{i},")), "{line}");
        }
        #[cfg(target_os = "linux")]
        {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
            let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
            assert!(kib < 200 << 10, "{peak}");
        }
        // Nobody reads any more: what is left is not generated.
        drop(lines);
        let ended = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(0), "{n}: {stderr}");
    }
}
