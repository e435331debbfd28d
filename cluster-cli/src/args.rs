//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use domain::{Durability, Place, RegionName, RepositoryName, Tag};

use crate::bench::args::Bench;

const EXAMPLES: &str = "\
Examples:
  cluster-cli dev                                              three regions on this machine
  cluster-cli status --watch                                   what they are doing
  cluster-cli init --node 10.1.0.4:7000 --region paris         a new cluster
  cluster-cli join 10.1.0.4:7000 --node 10.2.0.4:7000 --region tokyo
  cluster-cli policy set team --durability all

Any node answers any command; nobody needs to know who leads.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not now (retry helps), 4 refused because a promise would break";

/// Endpoints asked when none is named: those of `cluster-cli dev`.
pub(crate) const DEFAULT_ENDPOINTS: &str = "127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003";

/// Operates a Longshore cluster: one container registry in every region.
#[derive(Debug, Parser)]
#[command(name = "cluster-cli", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Which nodes to ask.
#[derive(Args, Clone, Debug)]
pub(crate) struct EndpointList {
    /// Peer door of any node; repeat it or separate by commas. The next one is tried when one does not answer
    #[arg(
        long = "endpoint",
        value_name = "HOST:PORT",
        env = "LONGSHORE_ENDPOINTS",
        value_delimiter = ',',
        default_value = DEFAULT_ENDPOINTS,
        value_parser = host_port
    )]
    pub(crate) endpoints: Vec<String>,
}

/// How to print.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Print JSON instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run several regions on this machine, to try things or to develop
    Dev(Dev),
    /// Make a node the first of a new cluster
    Init(Init),
    /// Make a node a member of an existing cluster, as a new region or in place of a lost node
    Join(Join),
    /// Take a region out of the cluster; refused while it holds the last copy of anything
    Leave(Leave),
    /// List the regions
    Regions(Regions),
    /// What every region is doing
    Status(Status),
    /// Policies of repositories
    #[command(subcommand)]
    Policy(PolicyVerb),
    /// Where tags pointed before, and putting them back
    #[command(subcommand)]
    Tags(TagsVerb),
    /// Compare a node's disk with what the cluster believes it to hold
    Sync(SyncNode),
    /// Hand leadership to another region
    TransferLeader(TransferLeader),
    /// Measure a registry: this one or any other
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// Round trips of a few milliseconds
    Lan,
    /// Round trips of 50 to 250 ms
    Wan,
}

impl Profile {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Profile::Lan => "lan",
            Profile::Wan => "wan",
        }
    }
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  cluster-cli dev                       three regions, data in ./longshore-dev; again continues
  cluster-cli dev --regions 5           five of them
  cluster-cli dev --ephemeral           forget everything at the end
  kill -9 PID                           take a region down; Enter brings it back")]
pub(crate) struct Dev {
    /// How many regions
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=7))]
    pub(crate) regions: u16,
    /// Where their data lives
    #[arg(long, value_name = "DIR", default_value = "longshore-dev", conflicts_with = "ephemeral")]
    pub(crate) data: PathBuf,
    /// Keep the data in a temporary directory and remove it at the end
    #[arg(long)]
    pub(crate) ephemeral: bool,
    /// Binary of the node. Default: built by cargo when run through cargo, else the one beside this program
    #[arg(long, value_name = "FILE")]
    pub(crate) node_binary: Option<PathBuf>,
    /// Timings of the metadata
    #[arg(long, value_enum, default_value = "lan")]
    pub(crate) profile: Profile,
    /// Durability of pushes: local, majority, all or a number of regions
    #[arg(long, value_name = "HOW", default_value = "majority", value_parser = durability)]
    pub(crate) durability: Durability,
    /// Port of the first registry; the others follow
    #[arg(long, value_name = "PORT", default_value_t = 5001, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    pub(crate) http_port: u16,
    /// Port of the first peer door; the others follow
    #[arg(long, value_name = "PORT", default_value_t = 7001, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    pub(crate) peer_port: u16,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Example:
  cluster-cli init --node 10.1.0.4:7000 --region paris --durability majority

Safe to repeat after a crash. A node that is a member already is left alone (exit code 4).")]
pub(crate) struct Init {
    /// Peer door of the node
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7001", value_parser = host_port)]
    pub(crate) node: String,
    /// Name of its region
    #[arg(long, value_name = "NAME", value_parser = region_name)]
    pub(crate) region: RegionName,
    /// Where the region stands, in degrees. Default: region.place of the node's configuration
    #[arg(long, value_name = "LAT,LON", value_parser = place, allow_hyphen_values = true)]
    pub(crate) place: Option<Place>,
    /// In how many regions a push is durable before it is acknowledged: local, majority, all or a number
    #[arg(long, value_name = "HOW", default_value = "majority", value_parser = durability)]
    pub(crate) durability: Durability,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  cluster-cli join 10.1.0.4:7000 --node 10.2.0.4:7000 --region tokyo
  cluster-cli join 10.1.0.4:7000 --node 10.2.0.4:7000 --region tokyo --replace 3   node 3 lost its disk
  cluster-cli join 10.1.0.4:7000 --attach --region tokyo                           look at a join again

Safe to repeat after a crash. Ctrl-C leaves the view; the join goes on.")]
pub(crate) struct Join {
    /// Peer door of any member
    #[arg(value_name = "MEMBER", value_parser = host_port)]
    pub(crate) member: String,
    /// Peer door of the new node
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7001", value_parser = host_port)]
    pub(crate) node: String,
    /// Name of its region
    #[arg(long, value_name = "NAME", value_parser = region_name)]
    pub(crate) region: RegionName,
    /// Where the region stands, in degrees. Default: region.place of the node's configuration
    #[arg(long, value_name = "LAT,LON", value_parser = place, allow_hyphen_values = true)]
    pub(crate) place: Option<Place>,
    /// Id of the node of that region which this one replaces; its store counts as lost
    #[arg(long, value_name = "NODE", conflicts_with = "attach")]
    pub(crate) replace: Option<u64>,
    /// Replace the node though it is up
    #[arg(long, requires = "replace")]
    pub(crate) yes: bool,
    /// Return as soon as the node is a member, without waiting for its region to be ready
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Only watch a join that was begun before
    #[arg(long, conflicts_with = "no_wait")]
    pub(crate) attach: bool,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  cluster-cli leave tokyo --dry-run     what it would take along
  cluster-cli leave tokyo               refused while tokyo holds the last copy of anything
  cluster-cli leave tokyo --force       give up what only tokyo holds: tokyo burned down")]
pub(crate) struct Leave {
    /// The region
    #[arg(value_name = "REGION", value_parser = region_name)]
    pub(crate) region: RegionName,
    /// Give up blobs of which no other region holds a copy
    #[arg(long)]
    pub(crate) force: bool,
    /// Say what would happen and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) endpoints: EndpointList,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Regions {
    #[command(flatten)]
    pub(crate) endpoints: EndpointList,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  cluster-cli status
  cluster-cli status --watch
  cluster-cli status --json | jq '.regions[] | {name, state, backlog_bytes}'")]
pub(crate) struct Status {
    /// Keep looking, once a second; with --json one object per line
    #[arg(long, short)]
    pub(crate) watch: bool,
    /// Show nodes, terms, indexes and state hashes too
    #[arg(long, short)]
    pub(crate) verbose: bool,
    #[command(flatten)]
    pub(crate) endpoints: EndpointList,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyVerb {
    /// Set the policy of a repository prefix
    Set(PolicySet),
    /// Show all policies, or the one in force for a repository
    Show(PolicyShow),
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  cluster-cli policy set team/api --durability all
  cluster-cli policy set \"\" --durability majority        every repository without a longer prefix
  cluster-cli policy set team --immutable-tags 'v*' --immutable-tags '?.?.?'
  cluster-cli policy set mirror --sparse accept

What is not named stays as it is; a prefix that has no policy yet begins with the one that was in force for it.")]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(crate) struct PolicySet {
    /// Prefix of repository names, whole components; \"\" for all
    #[arg(value_name = "PREFIX")]
    pub(crate) prefix: String,
    /// In how many regions a push is durable before it is acknowledged: local, majority, all or a number
    #[arg(long, group = "what", value_name = "HOW", value_parser = durability)]
    pub(crate) durability: Option<Durability>,
    /// Store manifests that name blobs or manifests which the repository does not hold, or refuse them
    #[arg(long, group = "what", value_enum)]
    pub(crate) sparse: Option<Sparse>,
    /// Tags that neither move nor go once they are set: * is any run of characters, ? any one; \"\" for none. Repeat it
    /// for several; they take the place of those that were set before
    #[arg(long, group = "what", value_name = "GLOB")]
    pub(crate) immutable_tags: Option<Vec<String>>,
    #[command(flatten)]
    pub(crate) endpoints: EndpointList,
}

/// What becomes of manifests whose children are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sparse {
    /// They are stored
    Accept,
    /// They are refused
    Refuse,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct PolicyShow {
    /// Show the policy in force for this repository. Default: all policies
    #[arg(value_name = "REPOSITORY", value_parser = repository)]
    pub(crate) repository: Option<RepositoryName>,
    #[command(flatten)]
    pub(crate) endpoints: EndpointList,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  cluster-cli sync --node 10.2.0.4:7000                    look for blobs that are not on its disk any more
  cluster-cli sync --node 10.2.0.4:7000 --confirm-loss     they are lost: fetch them again from other regions

A node fetches a few missing or damaged blobs again by itself. When it finds more than ten, and more than one in a
hundred, within an hour, its disk is more likely failing or not mounted: it gives nothing up and asks. Look at the disk
first. A confirmation counts for an hour.")]
pub(crate) struct SyncNode {
    /// Peer door of the node
    #[arg(long, value_name = "HOST:PORT", value_parser = host_port)]
    pub(crate) node: String,
    /// What is missing or damaged there is lost, however much it is
    #[arg(long)]
    pub(crate) confirm_loss: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct TransferLeader {
    /// Region or node id. Default: the most advanced voter
    #[arg(value_name = "REGION")]
    pub(crate) to: Option<String>,
    #[command(flatten)]
    pub(crate) endpoints: EndpointList,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TagsVerb {
    /// Show where a tag pointed, newest first
    History(TagsHistory),
    /// Put a tag back to where it pointed before
    Rollback(TagsRollback),
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  cluster-cli tags history team/api latest
  cluster-cli tags history team/api latest --limit 1 --json")]
pub(crate) struct TagsHistory {
    /// The repository
    #[arg(value_name = "REPOSITORY", value_parser = repository)]
    pub(crate) repository: RepositoryName,
    /// The tag; one that was deleted keeps its history
    #[arg(value_name = "TAG", value_parser = tag)]
    pub(crate) tag: Tag,
    /// How many moves to show
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) endpoints: EndpointList,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  cluster-cli tags rollback team/api latest                 to what it named before; again undoes it
  cluster-cli tags rollback team/api latest --to 128417     to what it named at that revision

A rollback is a move like any other: refused for immutable tags, and when somebody moved the tag meanwhile.")]
pub(crate) struct TagsRollback {
    /// The repository
    #[arg(value_name = "REPOSITORY", value_parser = repository)]
    pub(crate) repository: RepositoryName,
    /// The tag
    #[arg(value_name = "TAG", value_parser = tag)]
    pub(crate) tag: Tag,
    /// Back to what the tag named at this revision. Default: to what it named before what it names now
    #[arg(long, value_name = "REVISION")]
    pub(crate) to: Option<u64>,
    #[command(flatten)]
    pub(crate) endpoints: EndpointList,
    #[command(flatten)]
    pub(crate) output: Output,
}

fn host_port(text: &str) -> Result<String, String> {
    let text = text.trim().trim_start_matches("http://");
    let good = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if good { Ok(text.to_owned()) } else { Err("write host:port, such as 127.0.0.1:7001".to_owned()) }
}

fn region_name(text: &str) -> Result<RegionName, String> {
    RegionName::parse(text).map_err(|error| error.to_string())
}

fn repository(text: &str) -> Result<RepositoryName, String> {
    RepositoryName::parse(text).map_err(|error| error.to_string())
}

fn tag(text: &str) -> Result<Tag, String> {
    Tag::parse(text).map_err(|error| error.to_string())
}

fn durability(text: &str) -> Result<Durability, String> {
    Durability::parse(text).map_err(|error| error.to_string())
}

fn place(text: &str) -> Result<Place, String> {
    let parse = || {
        let (latitude, longitude) = text.split_once(',')?;
        let micros = |text: &str, most: f64| {
            let degrees: f64 = text.trim().parse().ok()?;
            (degrees.abs() <= most).then(|| (degrees * 1e6).round() as i32)
        };
        Some(Place { latitude_micros: micros(latitude, 90.0)?, longitude_micros: micros(longitude, 180.0)? })
    };
    parse().ok_or_else(|| "write latitude and longitude in degrees, such as 48.86,2.35".to_owned())
}

#[cfg(test)]
#[path = "args_test.rs"]
mod args_test;
