//! `strait check`: is the configuration valid?

use strait::config::Loaded;

/// Says that it is, and what is dangerous or probably not meant.
pub fn check(loaded: &Loaded) {
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    match &loaded.file {
        Some(file) => println!("{} is valid", file.display()),
        None => println!("the configuration is valid"),
    }
}
