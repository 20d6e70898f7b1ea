//! Power cuts on a real file system: ext4 in a file, shut down at a random moment.
//!
//! Needs root, `mkfs.ext4`, loop devices and perl (for one `ioctl`); skipped where one is missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::{nothing_lost, reported, tempdir, train, undisturbed};
use crate::report::{Random, conclude, skip, times};

/// `EXT4_IOC_SHUTDOWN` with `NOLOGFLUSH`: from now on nothing more reaches the disk.
const CUT: &str = r#"sysopen(my $d, $ARGV[0], 0) or die $!; my $how = pack("L", 2);
ioctl($d, 0x8004587d, $how) or die $!"#;

/// With and without ext4's heuristic that syncs files which replace others.
const OPTIONS: [&str; 2] = ["loop", "loop,noauto_da_alloc"];

fn succeeds(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A mounted file system, unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(image: &Path, at: &Path, options: &str) -> Option<Self> {
        let (image, dir) = (image.to_str().unwrap(), at.to_str().unwrap());
        succeeds("mount", &["-t", "ext4", "-o", options, image, dir]).then(|| Self(at.to_owned()))
    }

    fn cut(&self) -> bool {
        succeeds("perl", &["-e", CUT, self.0.to_str().unwrap()])
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let dir = self.0.to_str().unwrap();
        let is_gone = succeeds("umount", &[dir]) || succeeds("umount", &["-l", dir]);
        assert!(is_gone || std::thread::panicking(), "{dir} stays mounted");
    }
}

/// A fresh image with a place to mount it.
fn image(dir: &Path) -> Option<(PathBuf, PathBuf)> {
    let (image, at) = (dir.join("image"), dir.join("mounted"));
    fs::create_dir(&at).unwrap();
    let file = fs::File::create(&image).unwrap();
    file.set_len(48 << 20).unwrap();
    succeeds("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()]).then_some((image, at))
}

/// Why no power can be cut here, if it cannot.
fn why_not() -> Option<&'static str> {
    let dir = tempdir();
    let Some((image, at)) = image(dir.path()) else { return Some("there is no mkfs.ext4") };
    match Mount::new(&image, &at, OPTIONS[0]) {
        None => Some("no ext4 can be mounted (root, loop devices and ext4 are needed)"),
        Some(mount) => (!mount.cut()).then_some("ext4 cannot be shut down (perl is needed)"),
    }
}

/// One cut: what was reported before it must be there after it.
fn cut(number: usize) -> Result<(), String> {
    let mut random = Random::of("power cuts", number);
    let dir = tempdir();
    let (image, at) = image(dir.path()).ok_or("mkfs.ext4")?;
    let options = OPTIONS[number % 2];
    let mount = Mount::new(&image, &at, options).ok_or("mount")?;
    let out_dir = at.join("new/out");
    let mut train = train(&out_dir);
    let mut child = train.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let delay = Duration::from_micros(60_000 + random.next() % 600_000);
    std::thread::sleep(delay);
    if random.below(2) == 0 {
        // Another program's sync takes along what the journal holds by then.
        let other = fs::File::create(at.join("other")).unwrap();
        other.sync_all().unwrap();
    }
    assert!(mount.cut(), "no cut");
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    drop(mount);
    let last = reported(&String::from_utf8_lossy(&output.stderr));
    let _mount = Mount::new(&image, &at, options).ok_or("mount again")?;
    nothing_lost(&out_dir, last)
        .map_err(|what| format!("cut {number} after {delay:?}, {last} saved, {options}: {what}"))
}

#[test]
fn a_power_cut_loses_nothing_that_was_reported() {
    const WHAT: &str = "power cuts on ext4";
    if let Some(why) = why_not() {
        return skip(WHAT, why);
    }
    undisturbed();
    let n_cuts = times(4, 50);
    let failures: Vec<String> = (0..n_cuts).filter_map(|number| cut(number).err()).collect();
    conclude(WHAT, n_cuts, &failures);
}
