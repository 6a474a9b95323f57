//! Gives the library the SONAME of the CUDA driver: once a test has opened it by its path, whoever asks the
//! system for `libcuda.so` in that process gets it. No other process can find it by accident.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
    }
}
