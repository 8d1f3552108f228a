//! `image-pipeline parked`: lists, shows, saves, redrives and drops parked messages. A message is acknowledged only
//! after RabbitMQ has confirmed its copy, or if the user drops it.

use std::io::ErrorKind;
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use crate::rabbitmq::args::{self, BrokerArgs, BrokerArgsError, queue_name};
use crate::rabbitmq::{Delivery, QueueError};

mod filter;
mod message;
mod outcome;
mod pass;
mod report;
mod save;
mod table;

use filter::FilterArgs;
use message::ParkedMessage;
use outcome::Disposal;
use pass::Pass;
use report::Report;

/// Maximum number of redrives of a message without `--again`.
const MOST_REDRIVES: u32 = 3;

const EXAMPLES: &str = "\
Examples (the RabbitMQ options are those of publish):
  image-pipeline parked list --queue tiles.parked --broker-secret DIR
  image-pipeline parked show --queue tiles.parked --broker-secret DIR --id 19b-4-7
  image-pipeline parked redrive --queue tiles.parked --broker-secret DIR --since 2h --dry-run

list, show and save leave messages in the queue: the command takes the messages, and RabbitMQ returns them \
when the command ends, even if it is killed; until then other clients do not see them. In RabbitMQ 4, a quorum \
queue drops a message at its 21st return, unless its delivery-limit is different (a parking queue that a \
consumer declares has no limit). A message with nine returns is therefore copied to the end of the queue, \
where its count starts at 0, and the original is removed. Do not use the command on a quorum queue with a \
delivery-limit below 18.";

/// List, show, save, redrive or drop parked messages
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// List messages and count them by reason
    List {
        /// Output format
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
        #[command(flatten)]
        selection: Selection,
    },
    /// Print the first message: properties, headers and the beginning of the body
    Show {
        #[command(flatten)]
        selection: Selection,
    },
    /// Write the body of each message to a file, and its properties and headers to a JSON file
    Save {
        /// Directory for the files; created if it does not exist. Existing files are not replaced
        directory: PathBuf,
        #[command(flatten)]
        selection: Selection,
    },
    /// Publish messages to their source queue again, without the headers of parking
    ///
    /// Each message is removed from the parking queue after RabbitMQ has confirmed the copy. If the command is
    /// killed in between, the message is in both queues: run the command again, and the same object is
    /// stored again.
    Redrive {
        /// Queue to publish to [default: X for a parking queue named X.parked]
        #[arg(long, value_name = "QUEUE", value_parser = queue_name)]
        to: Option<String>,
        /// Include messages that were already redriven three times
        #[arg(long)]
        again: bool,
        /// Print what would be done, without doing it
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        selection: Selection,
    },
    /// Delete messages permanently
    Drop {
        /// Confirm that the messages are to be deleted permanently
        #[arg(long, required_unless_present = "dry_run")]
        yes: bool,
        /// Print what would be done, without doing it
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        selection: Selection,
    },
}

#[derive(Clone, Debug, clap::Args)]
struct Selection {
    /// The parking queue
    #[arg(long, value_parser = queue_name)]
    queue: String,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    broker: BrokerArgs,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Output {
    Table,
    Json,
}

/// The action on selected messages.
#[derive(Debug)]
enum Operation {
    List(Output),
    Show,
    Save(PathBuf),
    Redrive { to: Option<String>, again: bool, dry_run: bool },
    Drop { dry_run: bool },
}

/// The command did not complete. Messages that were already redriven or dropped stay so.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Broker(#[from] BrokerArgsError),
    /// RabbitMQ is unavailable, or did not accept a message.
    #[error("{}", args::explained(.0))]
    Queue(QueueError),
    /// A message redriven to the parking queue would be found again.
    #[error("--to names the parking queue itself; set it to the queue that is consumed")]
    ToItself,
    /// Some selected messages remain in the parking queue.
    #[error("{}", report::left(*.unknown, *.too_often))]
    Left {
        /// Messages without a known source queue.
        unknown: u64,
        /// Messages that were redriven too often.
        too_often: u64,
    },
    /// The command was stopped, or reached its time limit for holding messages.
    #[error("stopped before the end of the queue: {0} messages not read")]
    Stopped(u32),
    #[error("{0:?} already exists; save to another directory")]
    Exists(PathBuf),
    #[error("can't write {path:?}: {source}")]
    Save { path: PathBuf, source: std::io::Error },
    #[error("can't write to standard output: {0}")]
    Print(std::io::Error),
}

/// Not `#[from]`: a `source` would print the error's own advice, which names ImagePipeline fields.
impl From<QueueError> for Error {
    fn from(error: QueueError) -> Self {
        Error::Queue(error)
    }
}

/// Runs the command in one pass through the queue.
pub async fn run(args: Args, stop: CancellationToken) -> Result<(), Error> {
    let (selection, operation) = args.command.parts();
    if matches!(&operation, Operation::Redrive { to: Some(to), .. } if *to == selection.queue) {
        return Err(Error::ToItself);
    }
    let mut pass = Pass::open(selection.broker.address()?, selection.queue, stop).await?;
    let mut report = Report::default();
    let done = walk(&mut pass, &selection.filter, &operation, &mut report).await;
    // Return the messages before printing: a pager may block the output for long.
    pass.end().await;
    match report.print(&operation) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(Error::Print(error)),
        _ => done?,
    }
    report.complete()
}

async fn walk(pass: &mut Pass, filter: &FilterArgs, operation: &Operation, report: &mut Report) -> Result<(), Error> {
    let limit = filter.limit(matches!(operation, Operation::Show));
    while report.meant() < limit {
        let Some(delivery) = pass.next().await? else { break };
        let header = |name: &str| delivery.header(name);
        let entry = ParkedMessage::read(&header, delivery.message_id(), delivery.redriven(), delivery.body());
        if filter.matches(&entry) {
            let outcome = carry_out(pass, &delivery, &entry, operation, report.meant() + 1).await?;
            report.add(entry, outcome, operation);
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

/// `number` is the number of the selected message, from 1.
async fn carry_out(
    pass: &mut Pass,
    delivery: &Delivery,
    entry: &ParkedMessage,
    operation: &Operation,
    number: u64,
) -> Result<Disposal, Error> {
    let outcome = match operation {
        Operation::List(_) => Disposal::Seen,
        Operation::Show => Disposal::Shown(table::whole(&delivery.properties_json(), delivery.body())),
        Operation::Save(directory) => {
            save::save(directory, number, entry, delivery)?;
            Disposal::Seen
        }
        Operation::Drop { .. } => Disposal::Done(None),
        Operation::Redrive { to, again, .. } => entry.target(pass.queue(), to.as_deref(), *again),
    };
    match (operation, &outcome) {
        (Operation::Drop { dry_run: false }, _) => delivery.acknowledge().await?,
        (Operation::Redrive { dry_run: false, .. }, Disposal::Done(Some(queue))) => {
            pass.redrive(delivery, queue).await?
        }
        _ => pass.keep(delivery).await?,
    }
    Ok(outcome)
}

impl Command {
    fn parts(self) -> (Selection, Operation) {
        match self {
            Command::List { output, selection } => (selection, Operation::List(output)),
            Command::Show { selection } => (selection, Operation::Show),
            Command::Save { directory, selection } => (selection, Operation::Save(directory)),
            Command::Redrive { to, again, dry_run, selection } => {
                (selection, Operation::Redrive { to, again, dry_run })
            }
            Command::Drop { yes: _, dry_run, selection } => (selection, Operation::Drop { dry_run }),
        }
    }
}
