//! Repair of what was parked: look at it, save it, put it back on its queue, drop it. It must never
//! acknowledge a message that is neither confirmed elsewhere nor meant to be dropped.

use std::io::ErrorKind;
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use crate::broker_args::{self, BrokerArgs, BrokerError, queue_name};
use crate::queue::{Delivery, QueueError};

mod entry;
mod filter;
mod pass;
mod report;
mod save;
mod table;

use entry::Entry;
use filter::FilterArgs;
use pass::Pass;
use report::{Outcome, Report};

/// How often a message is redriven unless it is asked for: what has come back so often will again.
const MOST_REDRIVES: u32 = 3;

const EXAMPLES: &str = "\
Examples (the broker is given as to publish):
  image-pipeline parked list --queue tiles.parked --broker-secret DIR
  image-pipeline parked show --queue tiles.parked --broker-secret DIR --id 19b-4-7
  image-pipeline parked redrive --queue tiles.parked --broker-secret DIR --since 2h --dry-run

Looking moves nothing: the command takes messages, and returns them when it ends, however it ends; \
until then nobody else sees them. A quorum queue of RabbitMQ 4 drops a message at its 21st return, unless \
its delivery-limit says otherwise (a parking queue that a consumer declares has none). So the command \
copies a message with nine returns to the end of its queue, where the count begins at 0, and removes the \
original. Don't look into a quorum queue with a delivery-limit below 18.";

/// Look at parked messages, save them, put them back on their queue, or drop them
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// List messages, and count them by reason
    List {
        /// How to print them
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
        #[command(flatten)]
        source: Source,
    },
    /// Print the first message: properties, headers and how its body begins
    Show {
        #[command(flatten)]
        source: Source,
    },
    /// Write each message's body to a file, and its properties and headers as JSON beside it
    Save {
        /// Directory for the files; made if it is not there. No file in it is ever replaced
        directory: PathBuf,
        #[command(flatten)]
        source: Source,
    },
    /// Put messages back on their queue, without the reason, to be tried once more
    ///
    /// Each is published, confirmed by the broker and only then taken out of the parking queue. If the
    /// command is killed between, a message is in both: repeat it, and the same object is stored again.
    Redrive {
        /// Queue to publish to; X for the parking queue X.parked if not given
        #[arg(long, value_name = "QUEUE", value_parser = queue_name)]
        to: Option<String>,
        /// Also those that were redriven three times before and came back
        #[arg(long)]
        again: bool,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        source: Source,
    },
    /// Delete messages for good
    Drop {
        /// That they shall be deleted for good
        #[arg(long, required_unless_present = "dry_run")]
        yes: bool,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        source: Source,
    },
}

#[derive(Clone, Debug, clap::Args)]
struct Source {
    /// The parking queue
    #[arg(long, value_parser = queue_name)]
    queue: String,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// How a list is printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Output {
    Table,
    Json,
}

/// What is done with a message that is meant.
#[derive(Debug)]
enum Deed {
    List(Output),
    Show,
    Save(PathBuf),
    Redrive { to: Option<String>, again: bool, dry_run: bool },
    Drop { dry_run: bool },
}

/// Not everything was done. What was, stays done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker's address could not be put together.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The broker can't be used, or did not take a message.
    #[error("{}", broker_args::explained(.0))]
    Queue(QueueError),
    /// It would come back at once.
    #[error("--to names the parking queue itself; name the queue that is consumed")]
    ToItself,
    /// Some messages stay where they are.
    #[error("{}", report::left(*.unknown, *.too_often))]
    Left {
        /// Those for which nothing but a header names a queue.
        unknown: u64,
        /// Those that were redriven too often.
        too_often: u64,
    },
    /// The command was stopped, or has held messages for as long as a broker allows.
    #[error("stopped with {0} messages not looked at")]
    Stopped(u32),
    /// A message's file is there.
    #[error("{0:?} is there already; save to another directory")]
    Exists(PathBuf),
    /// A file could not be written.
    #[error("writing {path:?}: {source}")]
    Save {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What was found could not be printed.
    #[error("writing to standard output: {0}")]
    Print(std::io::Error),
}

/// Its own text speaks of an ImagePipeline, so it is no source.
impl From<QueueError> for Error {
    fn from(error: QueueError) -> Self {
        Error::Queue(error)
    }
}

/// Does what the options say, in one pass through the queue.
///
/// # Errors
/// The broker or a file can't be used, or some messages that were meant are where they were.
pub async fn run(args: Args, stop: CancellationToken) -> Result<(), Error> {
    let (source, deed) = args.command.parts();
    if matches!(&deed, Deed::Redrive { to: Some(to), .. } if *to == source.queue) {
        return Err(Error::ToItself);
    }
    let mut pass = Pass::open(source.broker.address()?, source.queue, stop).await?;
    let mut report = Report::default();
    let done = walk(&mut pass, &source.filter, &deed, &mut report).await;
    // Nobody shall wait for messages that are held while a pager shows what was found.
    pass.end().await;
    match report.print(&deed) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(Error::Print(error)),
        _ => done?,
    }
    report.complete()
}

async fn walk(pass: &mut Pass, filter: &FilterArgs, deed: &Deed, report: &mut Report) -> Result<(), Error> {
    let limit = filter.limit(matches!(deed, Deed::Show));
    while report.meant() < limit {
        let Some(delivery) = pass.next().await? else { break };
        let header = |name: &str| delivery.header(name);
        let entry = Entry::read(&header, delivery.message_id(), delivery.redriven(), delivery.body());
        if filter.matches(&entry) {
            let outcome = carry_out(pass, &delivery, &entry, deed, report.meant() + 1).await?;
            report.add(entry, outcome, deed);
        } else {
            pass.keep(&delivery).await?;
        }
    }
    match pass.unseen() {
        0 => Ok(()),
        _ if report.meant() >= limit => Ok(()),
        unseen => Err(Error::Stopped(unseen)),
    }
}

/// `number` counts the messages that are meant.
async fn carry_out(
    pass: &mut Pass,
    delivery: &Delivery,
    entry: &Entry,
    deed: &Deed,
    number: u64,
) -> Result<Outcome, Error> {
    let outcome = match deed {
        Deed::List(_) => Outcome::Seen,
        Deed::Show => Outcome::Shown(table::whole(&delivery.told(), delivery.body())),
        Deed::Save(directory) => {
            save::save(directory, number, entry, delivery)?;
            Outcome::Seen
        }
        Deed::Drop { .. } => Outcome::Done(None),
        Deed::Redrive { to, again, .. } => entry.target(pass.queue(), to.as_deref(), *again),
    };
    match (deed, &outcome) {
        (Deed::Drop { dry_run: false }, _) => delivery.acknowledge().await?,
        (Deed::Redrive { dry_run: false, .. }, Outcome::Done(Some(queue))) => pass.redrive(delivery, queue).await?,
        _ => pass.keep(delivery).await?,
    }
    Ok(outcome)
}

impl Command {
    fn parts(self) -> (Source, Deed) {
        match self {
            Command::List { output, source } => (source, Deed::List(output)),
            Command::Show { source } => (source, Deed::Show),
            Command::Save { directory, source } => (source, Deed::Save(directory)),
            Command::Redrive { to, again, dry_run, source } => (source, Deed::Redrive { to, again, dry_run }),
            Command::Drop { yes: _, dry_run, source } => (source, Deed::Drop { dry_run }),
        }
    }
}
