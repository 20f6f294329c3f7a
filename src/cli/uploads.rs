//! Which uploads the directories take.

use clap::{ArgAction, Args, builder::FalseyValueParser};
use tuffet::{Error, handlers::Directory};

use super::values;

#[derive(Args, Debug)]
pub struct Uploads {
    /// Leave this much free on the disk
    #[arg(long, value_name = "SIZE", env = "TUFFET_MIN_FREE", default_value = "16M", value_parser = values::size)]
    #[arg(help_heading = "Uploads")]
    pub min_free: u64,

    /// Take only names that fit, such as '*.cfg' or 'backup/*', any number of times
    #[arg(long, value_name = "GLOB", env = "TUFFET_UPLOAD_NAMES", value_delimiter = ',', help_heading = "Uploads")]
    pub upload_names: Vec<String>,

    /// Give each client a directory of its own, named by its address
    #[arg(long, env = "TUFFET_UPLOAD_PER_CLIENT", action = ArgAction::SetTrue)]
    #[arg(value_parser = FalseyValueParser::new(), help_heading = "Uploads")]
    pub upload_per_client: bool,

    /// Let uploads replace files, and keep so many older ones: NAME.~1~, NAME.~2~
    #[arg(long, value_name = "NUMBER", env = "TUFFET_KEEP_VERSIONS", default_value = "0", help_heading = "Uploads")]
    #[arg(value_parser = values::number::<usize>(0..=u32::MAX.into()))]
    pub keep_versions: usize,
}

impl Uploads {
    /// Whether it says what only directories can do.
    pub fn are_of_directories(&self) -> bool {
        self.upload_per_client || self.keep_versions > 0 || self.upload_names.iter().any(|name| !name.is_empty())
    }

    pub fn apply(&self, directory: Directory) -> Result<Directory, Error> {
        let names = self.upload_names.iter().filter(|name| !name.is_empty());
        let directory = directory.min_free(self.min_free).per_client(self.upload_per_client).upload_names(names)?;
        // None must not take `--overwrite` back.
        Ok(if self.keep_versions > 0 { directory.keep_versions(self.keep_versions) } else { directory })
    }
}
