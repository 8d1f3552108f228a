//! Certificates of a test authority, made by `openssl`. They are valid for one day.

use std::path::PathBuf;
use std::process::Command;

use super::process::{directory, run, write};

pub struct Authority {
    /// The certificate, in PEM.
    pub certificate: String,
    directory: PathBuf,
}

/// A certificate that an `Authority` issued, with its key, in PEM.
pub struct Certificate {
    pub chain: String,
    pub key: String,
}

impl Authority {
    /// Creates an authority with this common name.
    pub fn new(name: &str) -> Self {
        let directory = directory("authority");
        let extensions = "basicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign\n";
        let made = make(&directory, "ca", name, extensions, &[]);
        Self { certificate: made.chain, directory }
    }

    /// Server certificate for these names, in the syntax of `subjectAltName`.
    pub fn server(&self, names: &str) -> Certificate {
        self.issue("broker", &format!("extendedKeyUsage = serverAuth\nsubjectAltName = {names}\n"))
    }

    /// Client certificate with this common name.
    pub fn client(&self, name: &str) -> Certificate {
        self.issue(name, "extendedKeyUsage = clientAuth\n")
    }

    fn issue(&self, name: &str, extensions: &str) -> Certificate {
        let extensions = format!("basicConstraints = CA:FALSE\n{extensions}");
        make(&self.directory, name, name, &extensions, &["-CA", "ca.crt", "-CAkey", "ca.key"])
    }
}

fn make(directory: &PathBuf, file: &str, name: &str, extensions: &str, by: &[&str]) -> Certificate {
    let (crt, key) = (format!("{file}.crt"), format!("{file}.key"));
    let settings = format!(
        "[req]\nprompt = no\ndistinguished_name = name\nx509_extensions = extensions\n\
         [name]\nCN = {name}\n[extensions]\n{extensions}"
    );
    write(&directory.join("settings"), settings);
    let mut command = Command::new("openssl");
    command.current_dir(directory).args(["req", "-x509", "-config", "settings", "-days", "1"]);
    command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", &key, "-out", &crt]);
    run(command.args(by));
    let read = |file: &str| std::fs::read_to_string(directory.join(file)).expect("what openssl has written");
    Certificate { chain: read(&crt), key: read(&key) }
}
