//! What a dev cluster consists of, decided from the options alone.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::args::Dev;
use crate::failure::{Exit, Failure};

/// Names of the regions, in order, with where they stand.
const NAMES: [(&str, &str); 7] = [
    ("paris", "48.86,2.35"),
    ("virginia", "38.95,-77.45"),
    ("tokyo", "35.68,139.69"),
    ("saopaulo", "-23.55,-46.63"),
    ("sydney", "-33.87,151.21"),
    ("mumbai", "19.08,72.88"),
    ("lagos", "6.52,3.38"),
];

/// One region of a dev cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegionPlan {
    pub(crate) name: &'static str,
    pub(crate) place: &'static str,
    pub(crate) http_port: u16,
    pub(crate) peer_port: u16,
    /// Its data, configuration and log.
    pub(crate) directory: PathBuf,
}

/// What must stay the same when a dev cluster is started again on its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    http_port: u16,
    peer_port: u16,
    /// Regions it was last started with; 0 when that was not noted.
    #[serde(default)]
    regions: u16,
}

impl Kept {
    pub(crate) fn of(options: &Dev) -> Self {
        Kept { http_port: options.http_port, peer_port: options.peer_port, regions: options.regions }
    }

    /// Whether a cluster of these options can go on with the data.
    pub(crate) fn fits(&self, options: &Dev, data: &Path) -> Result<(), Failure> {
        let Kept { http_port, peer_port, regions } = self;
        if (options.http_port, options.peer_port) != (*http_port, *peer_port) {
            let what = format!("the data in {} belongs to other ports", data.display());
            let next =
                format!("add --http-port {http_port} --peer-port {peer_port}, or name another directory with --data");
            return Err(Failure::failed(what, next));
        }
        if options.regions < *regions {
            let what =
                format!("the data in {} has {regions} regions, {} cannot go on alone", data.display(), options.regions);
            let next = format!("add --regions {regions}, or name another directory with --data");
            return Err(Failure::failed(what, next));
        }
        Ok(())
    }
}

/// Refuses ports that two doors would share.
pub(crate) fn check(options: &Dev) -> Result<(), Failure> {
    if options.http_port.abs_diff(options.peer_port) >= options.regions {
        return Ok(());
    }
    let what = format!(
        "{} regions need as many ports each: those from {} and from {} overlap",
        options.regions, options.http_port, options.peer_port
    );
    Err(Failure::new(Exit::Usage, what, "choose --http-port and --peer-port further apart"))
}

pub(crate) fn regions(options: &Dev, data: &Path) -> Vec<RegionPlan> {
    let plan = |(position, (name, place)): (u16, (&'static str, &'static str))| RegionPlan {
        name,
        place,
        http_port: options.http_port + position,
        peer_port: options.peer_port + position,
        directory: data.join(name),
    };
    (0..options.regions).zip(NAMES).map(plan).collect()
}

impl RegionPlan {
    pub(crate) fn registry(&self) -> String {
        format!("127.0.0.1:{}", self.http_port)
    }

    pub(crate) fn peer(&self) -> String {
        format!("127.0.0.1:{}", self.peer_port)
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.directory.join("node.toml")
    }

    pub(crate) fn log_file(&self) -> PathBuf {
        self.directory.join("node.log")
    }

    /// The node's configuration.
    pub(crate) fn config(&self, profile: &str) -> String {
        let mut text = String::from("# Written by `cluster-cli dev` at every start.\n");
        // JSON strings are TOML strings; writing to a String cannot fail.
        let quote = |path: &Path| serde_json::Value::from(path.display().to_string()).to_string();
        let data = quote(&self.directory.join("data"));
        let blobs = quote(&self.directory.join("blobs"));
        let _infallible = write!(
            text,
            "[http]\nlisten = \"{}\"\n\n[peer]\nlisten = \"{}\"\n\n[region]\nplace = \"{}\"\n\n\
             [storage]\ndata = {data}\nblobs = {blobs}\n\n[raft]\nprofile = \"{profile}\"\n",
            self.registry(),
            self.peer(),
            self.place,
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Arguments, Verb};

    fn options(arguments: &[&str]) -> Dev {
        let all = ["cluster-cli", "dev"].iter().chain(arguments);
        let Verb::Dev(options) = Arguments::parse_from(all).verb else { panic!("dev is understood") };
        options
    }

    #[test]
    fn data_goes_on_with_its_ports_and_at_least_its_regions() {
        let data = Path::new("longshore-dev");
        let kept = Kept::of(&options(&["--regions", "4"]));
        assert_eq!(kept.fits(&options(&["--regions", "5"]), data), Ok(()));
        let told = kept.fits(&options(&[]), data).unwrap_err().to_string();
        assert!(told.contains("has 4 regions") && told.contains("add --regions 4"), "{told}");
        let told = kept.fits(&options(&["--regions", "4", "--http-port", "5101"]), data).unwrap_err().to_string();
        assert!(told.contains("add --http-port 5001 --peer-port 7001"), "{told}");
        let old: Kept = serde_json::from_str(r#"{"http_port":5001,"peer_port":7001}"#).unwrap();
        assert_eq!(old.fits(&options(&["--regions", "1"]), data), Ok(()));
    }

    #[test]
    fn doors_that_would_share_a_port_are_refused() {
        assert_eq!(check(&options(&[])), Ok(()));
        assert_eq!(check(&options(&["--http-port", "5411", "--peer-port", "5414"])), Ok(()));
        let refused = check(&options(&["--http-port", "5411", "--peer-port", "5412"])).unwrap_err();
        assert_eq!(refused.exit, Exit::Usage);
    }

    #[test]
    fn ports_and_names_follow_in_order() {
        let Verb::Dev(options) = Arguments::parse_from(["cluster-cli", "dev", "--regions", "7"]).verb else {
            panic!("dev is understood")
        };
        let plan = regions(&options, Path::new("longshore-dev"));
        let told: Vec<_> = plan.iter().map(|region| (region.name, region.registry(), region.peer_port)).collect();
        assert_eq!(told[0], ("paris", "127.0.0.1:5001".to_owned(), 7001));
        assert_eq!(told[2], ("tokyo", "127.0.0.1:5003".to_owned(), 7003));
        assert_eq!(told.len(), 7);
        let config = plan[1].config("wan");
        let expected = "\
# Written by `cluster-cli dev` at every start.
[http]
listen = \"127.0.0.1:5002\"

[peer]
listen = \"127.0.0.1:7002\"

[region]
place = \"38.95,-77.45\"

[storage]
data = \"longshore-dev/virginia/data\"
blobs = \"longshore-dev/virginia/blobs\"

[raft]
profile = \"wan\"
";
        assert_eq!(config, expected);
    }
}
