//! Makes the interpreter's features (`Py_GIL_DISABLED`) known as `cfg`s.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
