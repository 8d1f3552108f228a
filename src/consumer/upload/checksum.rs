//! The checksum of an uploaded object. Computed here and not by the SDK, so that S3's answer can be compared with it.

use aws_sdk_s3::operation::put_object::PutObjectOutput;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::types;
use aws_smithy_checksums::ChecksumAlgorithm;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::api::destination::{Checksum, S3Destination};

pub struct BodyChecksum {
    algorithm: ChecksumAlgorithm,
    /// Base64, as in the header.
    value: String,
}

impl BodyChecksum {
    /// The checksum that `destination.s3.checksum` selects, if any.
    pub fn of(body: &[u8], destination: &S3Destination) -> Option<Self> {
        let algorithm = match destination.checksum {
            Checksum::None => return None,
            // Object stores other than AWS refuse checksums that they don't support.
            Checksum::Auto if !destination.endpoint.is_empty() => return None,
            Checksum::Auto | Checksum::Crc32 => ChecksumAlgorithm::Crc32,
            Checksum::Crc32c => ChecksumAlgorithm::Crc32c,
            Checksum::Sha256 => ChecksumAlgorithm::Sha256,
        };
        let mut sum = algorithm.into_impl();
        sum.update(body);
        Some(Self { algorithm, value: STANDARD.encode(sum.finalize()) })
    }

    /// Adds this checksum to the request as a header.
    pub fn sent_with(&self, request: PutObjectFluentBuilder) -> PutObjectFluentBuilder {
        let value = self.value.clone();
        match self.algorithm {
            ChecksumAlgorithm::Crc32c => {
                request.checksum_algorithm(types::ChecksumAlgorithm::Crc32C).checksum_crc32_c(value)
            }
            ChecksumAlgorithm::Sha256 => {
                request.checksum_algorithm(types::ChecksumAlgorithm::Sha256).checksum_sha256(value)
            }
            _ => request.checksum_algorithm(types::ChecksumAlgorithm::Crc32).checksum_crc32(value),
        }
    }

    /// Whether the answer has a different checksum of the same algorithm.
    pub fn differs(&self, answer: &PutObjectOutput) -> bool {
        let stored = match self.algorithm {
            ChecksumAlgorithm::Crc32c => answer.checksum_crc32_c(),
            ChecksumAlgorithm::Sha256 => answer.checksum_sha256(),
            _ => answer.checksum_crc32(),
        };
        stored.is_some_and(|stored| stored != self.value)
    }
}
