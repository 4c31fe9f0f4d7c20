// SPDX-License-Identifier: Apache-2.0
#include "phases/teleclass/embedding_stage.h"

#include <fmt/format.h>

#include <algorithm>

#include "muster/core/digest.h"
#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/log.h"
#include "muster/core/strings.h"
#include "phases/runner/survey.h"
#include "phases/train/options.h"

namespace muster::phases {
namespace {

constexpr double kProgramBytes = 250e6;   // LibTorch, MPI and the program itself
constexpr std::uint64_t kRowBytes = 256;  // of an output line, generously

}  // namespace

config::Schema embedding_stage_schema() {
  config::Schema schema = config::common_schema();
  for (const char* key :
       {"model.path", "run.schedule", "run.batch_size", "run.window_items", "run.on_truncate", "run.seed"})
    schema.remove(key);
  schema
      .add({.name = "similarity.documents",
            .doc = "embeddings.h5 of the documents",
            .flags = {"--documents"},
            .required = true,
            .value_name = "FILE"})
      .add({.name = "similarity.classes",
            .doc = "embeddings.h5 of the classes' texts, in the order of their ids",
            .flags = {"--class-embeddings"},
            .required = true,
            .value_name = "FILE"});
  for (const char* name : {"taxonomy.classes", "taxonomy.hierarchy", "run.checkpoint_interval"})
    schema.add(*train_schema().find(name));
  return schema;
}

io::Identity embedding_digests(const std::string& documents, const std::string& classes) {
  return {{"embeddings.documents.sha256", embeddings_digest(documents)},
          {"embeddings.classes.sha256", embeddings_digest(classes)}};
}

EmbeddingStage::EmbeddingStage(const PhaseContext& context)
    : config_(context.config),
      space_(read_label_space(config_.string("taxonomy.classes"), config_.string("taxonomy.hierarchy"), "")),
      documents_path_(config_.string("similarity.documents")),
      classes_path_(config_.string("similarity.classes")) {}

io::Identity EmbeddingStage::upstream() const {
  return embedding_digests(documents_path_, classes_path_);
}

io::Identity EmbeddingStage::identity() const {
  io::Identity identity = upstream();
  identity["classes.sha256"] = core::sha256_file(config_.string("taxonomy.classes"));
  if (const auto& path = config_.string("taxonomy.hierarchy"); !path.empty())
    identity["hierarchy.sha256"] = core::sha256_file(path);
  return identity;
}

StepPlan EmbeddingStage::plan(int ranks, int workers) const {
  const auto shape = io::H5Reader(documents_path_).shape("/embeddings");
  const auto rows = static_cast<double>(shape.at(0)), columns = static_cast<double>(shape.at(1));
  const auto count = static_cast<double>(classes());
  StepPlan plan;
  const double block = static_cast<double>(256) * count * sizeof(float);
  plan.rank_bytes = kProgramBytes + rows / ranks * columns * sizeof(float) +
                    2 * count * columns * sizeof(float) + 3 * block * workers;
  plan.text = fmt::format(
      "plan: {:.0f} documents x {:.0f} classes of {:.0f} dimensions on {} ranks, {:.1f} GFLOP a step\n", rows,
      count, columns, ranks, 2 * rows * count * columns / 1e9);
  return plan;
}

std::uint64_t EmbeddingStage::disk_bytes() const {
  const auto shape = io::H5Reader(documents_path_).shape("/embeddings");
  return shape.at(0) * kRowBytes + 4 * classes() * shape.at(1) * sizeof(float) + (std::uint64_t{1} << 20);
}

void EmbeddingStage::check() {
  for (const auto& path : {documents_path_, classes_path_}) io::H5Reader(path).shape("/embeddings");
}

void EmbeddingStage::start(StepContext& context) {
  context_ = &context;
  context.begins("reading embeddings");
  comm::collectively(context.world, [&] {
    read_documents();
    read_classes();
  });
  std::uint64_t unusable = 0;
  for (const auto usable : rows_.usable) unusable += usable == 0;
  unusable_ = context.world.all_reduce_value(unusable, comm::Op::kSum);
  if (unusable_ > 0 && context.world.is_root())
    core::log::warning("{} documents have an embedding that is zero or not finite: they get no labels",
                       unusable_);
  team_ = std::make_unique<WorkerTeam>(context.workers);
  context.facts["documents"] = std::to_string(document_count_);
  context.facts["classes"] = std::to_string(classes());
  context.metric("memory embeddings", static_cast<double>(rows_.values.size() * sizeof(float)), "bytes", 0);
  context.metric("memory class vectors", static_cast<double>(initial_.values.size() * sizeof(float)), "bytes",
                 0);
}

void EmbeddingStage::read_documents() {
  const io::H5Reader reader(documents_path_);
  document_count_ = reader.shape("/embeddings").at(0);
  if (document_count_ > context_->survey.rows)
    throw core::DataError(
        fmt::format("{} holds {} documents, but the input has {}: they do not belong together",
                    documents_path_, document_count_, context_->survey.rows));
  const auto range = rows_of_rank(document_count_, context_->world.rank(), context_->world.size());
  rows_ = read_unit_rows(reader, range);
  if (range.count > 0) ids_ = reader.read_strings("/ids", range.first, range.count);
}

void EmbeddingStage::read_classes() {
  const io::H5Reader reader(classes_path_);
  const auto shape = reader.shape("/embeddings");
  if (shape.at(0) != classes())
    throw core::DataError(fmt::format("{} holds {} classes, but {} names {}; was a class text rejected?",
                                      classes_path_, shape.at(0), config_.string("taxonomy.classes"),
                                      classes()));
  if (shape.at(1) != rows_.dimensions)
    throw core::DataError(
        fmt::format("the embeddings of {} have {} dimensions and those of {} have {}; encode "
                    "both with the same model",
                    documents_path_, rows_.dimensions, classes_path_, shape.at(1)));
  auto read = read_unit_rows(reader, {0, classes()});
  const auto ids = reader.read_strings("/ids", 0, classes());
  for (std::size_t id = 0; id < classes(); ++id) {
    if (ids[id] != std::to_string(id))
      throw core::DataError(fmt::format("{}: row {} is class '{}'; ids count from 0 in order", classes_path_,
                                        id, core::printable(ids[id])));
    if (read.usable[id] == 0)
      throw core::DataError(fmt::format("{}: the embedding of class {} '{}' is zero or not finite",
                                        classes_path_, id, core::printable(space_.names[id])));
  }
  initial_ = {.classes = classes(), .dimensions = read.dimensions, .values = std::move(read.values)};
}

}  // namespace muster::phases
