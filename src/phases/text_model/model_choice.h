// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <map>
#include <string>
#include <vector>

#include "muster/models/text_encoder.h"
#include "muster/phases/item_phase.h"

namespace muster::phases {

/// The model part of an encoding job: what to load, and what its results carry as attributes.
struct ModelChoice {
  models::EncoderLoadConfig load;
};

/// Keys of phases that encode text: model.pooling, .normalize, .max_length, .prompt, .prompt_name,
/// output.dtype.
config::Schema encoder_schema();
ModelChoice choose_model(const config::Config& config, const device::Device& device);
/// Of phases that only have model.path and model.max_length.
ModelChoice choose_folder(const config::Config& config, const device::Device& device);
/// model.max_length.
config::Key max_length_key();
/// A folder, or `org/name` in the local Hugging Face cache (HF_HOME, HF_HUB_CACHE); DataError with the one
/// command that would fetch it.
std::string find_model_folder(const std::string& model);
/// Where tokenizer.json lies.
std::string tokenizer_folder(const std::string& folder, const models::EncoderDescription& description);
/// The text put before every item: model.prompt, the prompt called model.prompt_name, or the folder's
/// default.
std::string choose_prompt(const config::Config& config, const models::EncoderDescription& description);
/// "model.sha256" over weights and configs, "tokenizer.sha256" of the `files` in a folder, computed once a
/// process.
io::Identity model_digests(const std::string& folder, const std::vector<std::string>& files);
std::map<std::string, io::H5Attribute> model_attributes(const models::EncoderDescription& description,
                                                        const ModelChoice& choice);
/// "model.sha256" -> "model_sha256"
std::string attribute_name(std::string identity_name);
/// Measured floating-point operations a second of one worker; only plans use them.
double expected_rate(const device::Device& device, models::ComputeType type);
Footprint encoder_footprint(const models::EncoderDescription& description, const ModelChoice& choice,
                            std::uint64_t batch_tokens);

}  // namespace muster::phases
