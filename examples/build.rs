//! Decides, before the tests are compiled, whether a real `redis-server` is there to run against.

fn main() {
    println!("cargo::rerun-if-env-changed=PATH");
    println!("cargo::rustc-check-cfg=cfg(no_redis_server)");
    if find_on_path("redis-server").is_none() {
        println!("cargo::rustc-cfg=no_redis_server");
    }
}

fn find_on_path(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}
