// SPDX-License-Identifier: Apache-2.0
#include "phases/teleclass/stages.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>

#include "muster/core/digest.h"
#include "muster/models/text_classifier.h"
#include "phases/encode/encode.h"
#include "phases/infer/infer.h"
#include "phases/teleclass/embedding_stage.h"
#include "phases/teleclass/score.h"
#include "phases/teleclass/similarity.h"
#include "phases/teleclass/unit_rows.h"
#include "phases/teleclass/zero_shot.h"
#include "phases/text_model/model_choice.h"
#include "phases/train/train.h"

namespace muster::phases {
namespace {

/// Values that a stage does not take from the pipeline's config.
struct Own {
  std::map<std::string, std::string> texts;
  std::map<std::string, std::vector<std::string>> lists;
  Own& operator+=(const Own& other) {
    for (const auto& [name, text] : other.texts) texts[name] = text;
    for (const auto& [name, list] : other.lists) lists[name] = list;
    return *this;
  }
  friend Own operator+(Own a, const Own& b) { return a += b; }
};

// The pipeline's values wherever the stage has such a key, then its own.
config::Config derive(const PhaseInfo& phase, const config::Config& from, const Own& own) {
  const auto origin = [](std::string text, std::vector<std::string> list) {
    return config::Value{.text = std::move(text), .list = std::move(list), .origin = "teleclass"};
  };
  std::map<std::string, config::Value> values;
  for (const auto& key : phase.schema.keys()) {
    // Only training draws random numbers: another seed is no reason to do the other stages again.
    if (key.name == "run.seed" && phase.name != "train") continue;
    if (from.schema().find(key.name) != nullptr) values[key.name] = from.value(key.name);
  }
  for (const auto& [name, text] : own.texts) values[name] = origin(text, {});
  for (const auto& [name, list] : own.lists) values[name] = origin("", list);
  values["job"] = origin(phase.name, {});
  return {phase.schema, std::move(values)};
}

/// What stages hand to each other.
struct Places {
  std::string folder;
  std::string of(const std::string& name) const { return (std::filesystem::path(folder) / name).string(); }
  std::string documents() const { return of("documents/embeddings.h5"); }
  std::string classes() const { return of("classes/embeddings.h5"); }
  std::string labels() const { return of("labels/pseudo_labels.tsv"); }
  std::string vectors() const { return of(std::string("labels/") + kVectorsFile); }
  std::string model() const { return of("model/model"); }
  std::string predictions() const { return of("infer/predictions.h5"); }
};

enum class Corpora { kBoth, kTrain };

Own corpora(const TeleclassFiles& files, Corpora which) {
  Own own;
  const auto add = [&](const std::string& path, const char* prefix) {
    if (path.empty()) return;
    own.lists["input.path"].push_back(path);
    own.lists["input.id_prefix"].emplace_back(prefix);
  };
  add(files.train_corpus, kTrainPrefix);
  if (which == Corpora::kBoth) add(files.test_corpus, kTestPrefix);
  return own;
}

std::string classifier_model(const config::Config& config) {
  const std::string given = config.string("teleclass.classifier_model");
  return given.empty() ? config.string("model.path") : given;
}

// Training cuts a longer wish to what the model takes; infer must get what training had.
std::string classifier_max_length(const config::Config& config) {
  const std::string wanted = "teleclass.classifier_max_length";
  const auto most = models::describe_text_encoder(find_model_folder(classifier_model(config))).max_length;
  const auto length = config.is_auto(wanted) ? most : std::min<std::int64_t>(config.integer(wanted), most);
  return std::to_string(length);
}

}  // namespace

std::vector<Stage> teleclass_stages(const config::Config& config, const TeleclassFiles& files) {
  const Places places{config.string("output.dir")};
  const Own both = corpora(files, Corpora::kBoth);
  const Own test{.texts = {}, .lists = {{"input.path", {files.test_corpus}}}};
  const Own taxonomy{.texts = {{"taxonomy.classes", files.classes}, {"taxonomy.hierarchy", files.hierarchy}},
                     .lists = {}};
  const Own embeddings = taxonomy + Own{.texts = {{"similarity.documents", places.documents()},
                                                  {"similarity.classes", places.classes()}},
                                        .lists = {}};
  const Own classifier =
      taxonomy + Own{.texts = {{"model.max_length", classifier_max_length(config)}}, .lists = {}};
  const auto embeddings_now = [places] { return embedding_digests(places.documents(), places.classes()); };
  const auto nothing = [] { return io::Identity(); };

  std::vector<Stage> stages;
  const auto add = [&](const char* name, const char* until, PhaseInfo phase, Own own,
                       std::function<io::Identity()> upstream) {
    own.texts["output.dir"] = places.of(name);
    auto derived = derive(phase, config, own);
    stages.push_back({name, until, std::move(phase), std::move(derived), std::move(upstream)});
  };
  add("classes", "documents", encode_phase(),
      {.texts =
           {{"input.format", "tsv"}, {"input.id", "id"}, {"input.text", "text"}, {"report.map_points", "0"}},
       .lists = {{"input.path", {places.of(kClassTexts)}}}},
      nothing);
  add("documents", "documents", encode_phase(), both, nothing);
  add("labels", "labels", similarity_phase(), both + embeddings, embeddings_now);
  add("zero_shot", "labels", zero_shot_phase(), both + embeddings, embeddings_now);
  const bool on_all = config.string("teleclass.train_on") == "all";
  add("model", "model", train_phase(),
      (on_all ? both : corpora(files, Corpora::kTrain)) + classifier +
          Own{.texts = {{"model.path", classifier_model(config)}, {"train.labels", places.labels()}},
              .lists = {}},
      [places] {
        return io::Identity{{"labels.sha256", core::sha256_file(places.labels())}};
      });
  add("infer", "infer", infer_phase(),
      test + classifier + Own{.texts = {{"model.path", places.model()}}, .lists = {}},
      [places] { return model_digests(places.model(), models::text_classifier_files(places.model())); });
  if (!files.test_gold.empty()) {
    add("scores", "scores", score_phase(),
        both + embeddings +
            Own{.texts = {{"score.predictions", places.predictions()},
                          {"score.vectors", places.vectors()},
                          {"score.gold", files.test_gold}},
                .lists = {}},
        [places] {
          return io::Identity{{"embeddings.documents.sha256", embeddings_digest(places.documents())},
                              {"vectors.sha256", core::sha256_file(places.vectors())},
                              {"predictions.sha256", predictions_digest(places.predictions())}};
        });
  }
  constexpr std::array<std::string_view, 5> kParts{"documents", "labels", "model", "infer", "scores"};
  const auto part = [&](const std::string& name) { return std::find(kParts.begin(), kParts.end(), name); };
  const auto last = part(config.string("teleclass.until"));
  std::erase_if(stages, [&](const Stage& stage) { return part(stage.until) > last; });
  return stages;
}

}  // namespace muster::phases
