// SPDX-License-Identifier: Apache-2.0
#include "phases/train/train_state.h"

#include <fmt/format.h>

#include "muster/formats/json.h"

namespace muster::phases {

std::string TrainState::to_json() const {
  // 17 digits bring a double back as it was.
  return fmt::format(
      R"({{"epoch":{},"batch":{},"batches":{},"documents":{},"skipped":{},"bad_in_a_row":{},"has_best":{},)"
      R"("best":{:.17g},"best_epoch":{},"epochs_without_better":{},"stopped_early":{}}})",
      epoch, batch, batches, documents, skipped, bad_in_a_row, has_best, best, best_epoch,
      epochs_without_better, stopped_early);
}

TrainState TrainState::from_json(const std::string& text, const std::string& file) {
  const auto json = formats::parse_json(text, file);
  TrainState state;
  state.epoch = json.get<std::uint64_t>("epoch");
  state.batch = json.get<std::uint64_t>("batch");
  state.batches = json.get<std::uint64_t>("batches");
  state.documents = json.get<std::uint64_t>("documents");
  state.skipped = json.get<std::uint64_t>("skipped");
  state.bad_in_a_row = json.get<std::uint64_t>("bad_in_a_row");
  state.has_best = json.get<bool>("has_best");
  state.best = json.get<double>("best");
  state.best_epoch = json.get<std::uint64_t>("best_epoch");
  state.epochs_without_better = json.get<std::uint64_t>("epochs_without_better");
  state.stopped_early = json.get<bool>("stopped_early");
  return state;
}

}  // namespace muster::phases
