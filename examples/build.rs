//! Decides, before the tests are compiled, which real programs are there to run against.

/// Each with the condition under which its tests are ignored.
const PROGRAMS: [(&str, &str); 4] = [
    ("redis-server", "no_redis_server"),
    ("promtool", "no_promtool"),
    ("chromium", "no_chromium"),
    ("systemd-analyze", "no_systemd_analyze"),
];

fn main() {
    println!("cargo::rerun-if-env-changed=PATH");
    for (program, missing) in PROGRAMS {
        println!("cargo::rustc-check-cfg=cfg({missing})");
        if find_on_path(program).is_none() {
            println!("cargo::rustc-cfg={missing}");
        }
    }
}

fn find_on_path(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}
