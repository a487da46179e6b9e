//! Compiles the layer with the C compiler of the machine, beside the program that runs.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const SOURCE: &str = include_str!("../../disk/shim.c");
const FLAGS: &[&str] = &[
    "-std=gnu11",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wconversion",
    "-Wno-sign-conversion",
    "-Werror",
    "-shared",
    "-fPIC",
    "-fvisibility=hidden",
];

/// The compiled layer. It is compiled when a program first asks for this version of it.
pub(super) fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let mut version = DefaultHasher::new();
        (SOURCE, FLAGS).hash(&mut version);
        let folder = std::env::current_exe().unwrap().parent().unwrap().to_owned();
        let library = folder.join(format!("disk-shim-{:016x}.so", version.finish()));
        if !library.exists() {
            // Several programs may do this at once: each makes a file of its own, and one of them stays.
            let draft = library.with_extension(format!("so.{}", std::process::id()));
            compile(&draft);
            std::fs::rename(&draft, &library).unwrap();
        }
        library
    })
}

fn compile(to: &Path) {
    let mut compiler = Command::new("cc")
        .args(FLAGS)
        .args(["-x", "c", "-", "-o"])
        .arg(to)
        .stdin(Stdio::piped())
        .spawn()
        .expect("cc, a C compiler, is installed");
    compiler.stdin.take().unwrap().write_all(SOURCE.as_bytes()).unwrap();
    assert!(compiler.wait().unwrap().success(), "disk/shim.c does not compile");
}
