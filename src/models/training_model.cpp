// SPDX-License-Identifier: Apache-2.0
#include "models/training_model.h"

#include <algorithm>

#include "models/registry.h"
#include "muster/nn/trainable_memory.h"

namespace muster::models {

TrainingModel::TrainingModel(const formats::JsonValue& config, const TrainingHeadConfig& head)
    : encoder_(make_transformer(config)), head_(head, encoder_->facts()) {
  collect_parameters();
}

void TrainingModel::collect_parameters() {
  encoder_->visit_parameters([&](const std::string& name, nn::Parameter& parameter) {
    TrainingParameter entry{.name = name, .parameter = &parameter, .stage = Stage::kShared};
    if (const auto block = encoder_->block_of(name)) {
      entry.stage = Stage::kBlocks;
      entry.block = *block;
    } else if (name.starts_with("embeddings.")) {
      entry.stage = Stage::kEmbeddings;
    }
    parameters_.push_back(std::move(entry));
  });
  for (const HeadPart& part : head_.parts())
    part.layer->visit_parameters([&](const std::string& name, nn::Parameter& parameter) {
      parameters_.push_back({.name = name, .parameter = &parameter, .weights = part.weights});
    });
  std::stable_sort(parameters_.begin(), parameters_.end(),
                   [](const auto& a, const auto& b) { return a.stage < b.stage; });
}

at::Tensor TrainingModel::logits(const TrainingBatch& batch, const TrainingRules& rules) const {
  const at::Tensor hidden = encoder_->forward_training(batch, rules);  // [rows, hidden]
  const auto head_site =
      1 + static_cast<std::uint32_t>(encoder_->facts().layers) * nn::StackTraining::kSitesPerBlock;
  return head_.forward(hidden, batch, rules.dropouts, head_site);
}

double activation_bytes(const TransformerFacts& facts, const TrainingRules& rules, std::uint32_t tokens,
                        ComputeType type) {
  const auto dtype = type == ComputeType::kFp32   ? c10::ScalarType::Float
                     : type == ComputeType::kFp16 ? c10::ScalarType::Half
                                                  : c10::ScalarType::BFloat16;
  const auto kept_type = [dtype](double probability) {
    return nn::trainable::KeptType{
        dtype, probability > 0 ? nn::trainable::Drops::kSome : nn::trainable::Drops::kNone};
  };
  const auto norm = [&](double probability) {
    return nn::trainable::add_norm_bytes(tokens, facts.hidden, kept_type(probability));
  };
  const double row = static_cast<double>(tokens) * static_cast<double>(c10::elementSize(dtype));
  const double state = row * static_cast<double>(facts.hidden);
  const double inner = row * static_cast<double>(facts.intermediate);
  const nn::BlockDropouts& rates = rules.dropouts.blocks;
  // Of a block: query, key, value, context, both norms' results, the feed-forward's inside before and behind
  // its activation, and what attention and norms keep beside.
  const nn::HeadShape shape{facts.heads, facts.hidden / facts.heads};
  const double block = 6 * state + 2 * inner + norm(rates.attention_output) + norm(rates.output) +
                       nn::trainable::attend_bytes(tokens, shape, kept_type(rates.attention));
  const auto blocks = static_cast<double>(facts.layers - rules.frozen_blocks);
  const double embeddings = state + (rules.frozen_blocks > 0 ? 0 : norm(0));
  // Recomputed: every block's input, and the insides of the one that backward is at.
  const bool recomputes = rules.insides == nn::Insides::kRecomputed && blocks > 0;
  return embeddings + (recomputes ? blocks * state + block : blocks * block);
}

}  // namespace muster::models
