// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "muster/config/schema.h"
#include "muster/phases/item_phase.h"
#include "phases/labels/class_files.h"
#include "phases/teleclass/class_rounds.h"

namespace muster::phases {

/// Document ids of the pipeline: both corpora may count from 0.
inline constexpr const char* kTrainPrefix = "train/";
inline constexpr const char* kTestPrefix = "test/";

/// Keys of stages that work on embeddings: those of all phases but what models and micro-batches need,
/// similarity.documents, .classes, taxonomy.classes, .hierarchy, run.checkpoint_interval.
config::Schema embedding_stage_schema();

/// A stage that compares the embeddings of documents with those of classes, a run of documents a rank.
class EmbeddingStage : public StepPhase {
 public:
  explicit EmbeddingStage(const PhaseContext& context);
  io::Identity identity() const override;
  StepPlan plan(int ranks, int workers) const override;
  std::uint64_t disk_bytes() const override;
  void check() override;
  void start(StepContext& context) override;
  bool finished() const override { return steps_ >= steps_total(); }
  std::uint64_t steps_done() const override { return steps_; }
  std::uint64_t items_done() const override { return steps_ * document_count_; }
  std::uint64_t items_total() const override { return steps_total() * document_count_; }
  void save() override {}
  bool wants_checkpoint() const override { return false; }

 protected:
  /// The digests that identity() takes from other stages.
  virtual io::Identity upstream() const;
  std::size_t classes() const { return space_.names.size(); }
  bool is_test(std::size_t local) const { return ids_[local].starts_with(kTestPrefix); }

  config::Config config_;
  LabelSpace space_;
  std::string documents_path_, classes_path_;
  StepContext* context_ = nullptr;
  std::uint64_t document_count_ = 0;
  std::uint64_t unusable_ = 0;  ///< documents of all ranks without a direction
  UnitRows rows_;
  std::vector<std::string> ids_;  ///< of the rank's rows
  ClassVectors initial_;          ///< of the class texts
  std::unique_ptr<WorkerTeam> team_;
  std::uint64_t steps_ = 0;

 private:
  void read_documents();
  void read_classes();
};

/// What the embedding stages depend on besides input and keys, as identity() says it.
io::Identity embedding_digests(const std::string& documents, const std::string& classes);

}  // namespace muster::phases
