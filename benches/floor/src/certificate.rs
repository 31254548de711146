//! The certificate of the TLS servers: made anew for each run, for `localhost`, ECDSA on P-256.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes a file that has both the private key and the certificate, and that only its owner may read.
pub fn write(path: &Path) -> Result<(), String> {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()])
        .map_err(|error| format!("cannot make a certificate: {error}"))?;
    let text = certified.signing_key.serialize_pem() + &certified.cert.pem();
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    written
        .and_then(|mut file: File| file.write_all(text.as_bytes()))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}
