//! All reasons that conditions, events, metrics, logs, parking headers and `/status` use. A reason carries no data,
//! since metrics use it as a label: this list bounds the number of series. The pages' tables of reasons are written
//! from the comments here.

use prometheus_client::encoding::EncodeLabelValue;
use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

/// A CamelCase reason, as Kubernetes conditions require (API conventions, "Conditions").
#[derive(
    Clone,
    Copy,
    Debug,
    Deserialize,
    EncodeLabelValue,
    EnumIter,
    EnumString,
    Eq,
    Hash,
    IntoStaticStr,
    PartialEq,
    Serialize,
)]
pub enum Reason {
    // Messages.
    /// The body has more than `source.rabbitmq.maxBodyBytes`: raise it, and redrive.
    BodyTooLarge,
    /// Its second delivery was decoded in a decoder process, which crashed, ran out of memory or hung; the detail says
    /// which. Save it and look at the image; publish a repaired one, or drop it.
    CrashingMessage,
    /// The decoder panicked: the file is damaged, or of a variant that is not read. Open it with another program, and
    /// publish it again as PNG.
    DecoderPanicked,
    /// Its returns came near the queue's delivery limit, and the broker refused a copy of it: do what the detail says,
    /// and redrive.
    DeliveredTooOften,
    /// The image has more pixels, or needs more memory, than allowed; or S3 or an HTTP proxy in front of it limits the
    /// size. Raise what the detail names, and redrive.
    ImageTooLarge,
    /// The image's field is not base64: fix the publisher.
    InvalidBase64,
    /// The image is cut off or damaged: look at the body.
    InvalidImage,
    /// The body is not JSON, or too deeply nested: fix the publisher.
    InvalidJson,
    /// The name can't be a key: it is empty, has a segment `..`, or more than 1024 bytes. Fix the publisher.
    InvalidName,
    /// The properties are not UTF-8, nest too deep or fill more than a frame: fix the publisher. Redrive messages whose
    /// body alone is enough.
    MessageUnreadable,
    /// A field is missing, or has another type: fix the publisher and publish again; or set `message.imagePath` and
    /// `message.namePath`, and redrive.
    MissingField,
    /// With `onConflict: Fail`: the bucket has an object of this key with other bytes. Decide which one counts.
    ObjectExists,
    /// The image has no known format: look at the body.
    UnknownFormat,
    /// A valid image of a kind that is not read, such as a TIFF with a near infrared band: publish it as the detail
    /// says.
    UnsupportedImage,
    // RabbitMQ.
    /// The host resolves to the operator's loopback, a link-local address or a cloud's metadata service: use the
    /// broker's Service, or the chart's value `allowLocalBrokers`.
    AddressRefused,
    /// The broker refuses the user: correct user and password in the Secret.
    AuthenticationFailed,
    /// The host does not answer, or not like RabbitMQ: check host, port and network.
    BrokerUnreachable,
    /// No fault.
    Connected,
    /// The user or the virtual host may have no more connections (`rabbitmqctl set_user_limits`, `rabbitmqctl
    /// set_vhost_limits`), or the namespace has as many brokers as the chart's value `brokersPerNamespace` allows.
    ConnectionLimit,
    /// The session ended: it was closed, fell silent, or the queue was deleted. The consumer reconnects.
    ConnectionLost,
    /// Messages are ready, and the broker sends none: the consumer subscribes again.
    ConsumerStalled,
    /// No fault of the pipeline: the user may not declare the queue passively. The depth is unknown; the consumers
    /// still read the queue. Give the user the right, or set `spec.replicas`.
    DeclareRefused,
    /// The host can't be resolved: correct it in the Secret.
    DnsFailed,
    /// A warning: other programs consume the queue too, such as an old script. This pipeline does not store what they
    /// take. Stop them, or give them a queue of their own.
    ForeignConsumers,
    /// AMQP allows names of at most 255 bytes: shorten the name.
    NameTooLong,
    /// No fault.
    QueueFound,
    /// The queue is exclusive to a connection, or another consumer has it exclusively: do what the message says.
    QueueInUse,
    /// The queue does not exist: declare it, or correct `source.rabbitmq.queue`.
    QueueNotFound,
    /// From `check`: the broker deletes the queue with its messages, because it is auto-delete, expires or is not
    /// durable. Declare a durable queue.
    QueueTemporary,
    /// The broker's node that holds the queue is down: start the node. Declaring the queue again would lose its
    /// messages.
    QueueUnavailable,
    /// The queue is a stream: use a quorum or classic queue.
    StreamNotSupported,
    /// A certificate isn't trusted, or one side speaks TLS and the other doesn't: do what the message says.
    TlsFailed,
    /// The broker has no such virtual host for this user: correct `source.rabbitmq.vhost`, or the permissions.
    VhostNotFound,
    // Secrets.
    /// A key of a Secret is missing or wrong: correct it.
    SecretInvalid,
    /// A Secret does not exist in the namespace: create it, or correct the field.
    SecretNotFound,
    // Parking and renewal.
    /// An event: messages that can never succeed were parked.
    MessagesParked,
    /// An event: consumers moved messages to the end of the queue, because they came near the delivery limit or were
    /// refused for too long. Look for crashing pods, closed connections, and faults of S3 and of the parking queue.
    MessagesRenewed,
    /// No fault.
    ParkingAvailable,
    /// Messages that can't succeed can't be parked either, and the consumer keeps them: the queue is full, or the user
    /// may not declare or write it, or the broker is slow or short of memory.
    ParkingRefused,
    // Storage.
    /// S3 identifies the user, and refuses: allow what the message names. A parked message with this reason: S3 stored
    /// others, so a policy refuses this key.
    AccessDenied,
    /// The bucket does not exist: create it, or correct `destination.s3.bucket`.
    BucketNotFound,
    /// The node's clock and S3's differ: set the node's clock.
    ClockSkewed,
    /// The credentials are no longer valid: renew them in the Secret.
    CredentialsExpired,
    /// S3 does not know the access key, or the secret key is wrong: correct the Secret.
    CredentialsInvalid,
    /// There are no credentials: name a Secret, or give the pods' ServiceAccount a role.
    CredentialsMissing,
    /// S3 does not answer at `destination.s3.endpoint`, or its connections break: check address and network.
    EndpointUnreachable,
    /// No fault.
    StorageAvailable,
    /// The store has no room, or a quota is used up: make room.
    StorageFull,
    /// S3 refuses requests, or its answers are not those of S3: do what the message says. A parked message with this
    /// reason: S3 stored others, and refuses this object.
    StorageRefused,
    /// S3 asks to wait: the consumers do.
    StorageThrottled,
    /// S3 does not answer in time: the consumers retry.
    StorageTimeout,
    /// S3 has a fault of its own (5xx): the consumers retry.
    StorageUnavailable,
    /// The bucket is in another region: correct `destination.s3.region`.
    WrongRegion,
    // Consumers.
    /// No fault.
    ConsumersReady,
    /// For the first minute `Unknown`, then `False`: no pod consumes yet. `kubectl describe pod` says why.
    ConsumersStarting,
    /// The container ends again and again; the message says how. Raise the memory limit if the message names it.
    ContainerFailing,
    /// The API server refuses the Deployment: do what the message says.
    DeploymentRefused,
    /// The image can't be pulled: check its name, and the pull Secret in this namespace.
    ImagePullFailed,
    /// No fault: the size is 0.
    NoConsumers,
    /// Nothing has been observed yet, or another condition hides it.
    NotYetKnown,
    /// Kubernetes refuses to create pods: quota, Pod Security or an admission webhook.
    PodsRefused,
    /// No fault of the pipeline: the operator can't reach the pods' port 8080. A NetworkPolicy must allow it.
    StatusUnreachable,
    /// No node has room for a pod: make room, or lower `consumer.resources`.
    Unschedulable,
    // Scaling and pipeline.
    /// No fault: the backlog asks for more than `scaling.maxReplicas`.
    AtMaximum,
    /// No fault: the size follows the backlog.
    BacklogCounted,
    /// The depth can't be read, or can't be true: the size stays. See `BrokerReachable`.
    DepthUnknown,
    /// No fault: `spec.replicas` is set.
    FixedSize,
    /// No fault of its own: more pods could not help now; the message says why.
    GrowthHeld,
    /// No fault: the queue is empty.
    Idle,
    /// The resource was stored under another definition, and can't be read: correct the field that the message names.
    InvalidSpec,
    /// The Deployment `NAME-consumer` belongs to someone else: rename the pipeline, or delete that Deployment.
    NameTaken,
    /// No fault: `spec.paused` is set.
    Paused,
    /// No fault.
    Running,
    /// An event: the size fell.
    ScaledDown,
    /// An event: the size rose.
    ScaledUp,
    /// No fault: `spec.replicas` is 0.
    Stopped,
    /// No fault.
    WithinLimits,
}

impl Reason {
    /// The reason's name, such as `QueueNotFound`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}
