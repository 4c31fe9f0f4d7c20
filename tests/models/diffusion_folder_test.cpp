// SPDX-License-Identifier: Apache-2.0
// Pipelines' folders: their configs, the files their weights may lie in, strict loading, sizes without
// weights.
#include <gtest/gtest.h>

#include "models/image_fixture.h"
#include "muster/core/error.h"
#include "muster/formats/safetensors_writer.h"

namespace muster::models {
namespace {

constexpr const char* kUNet = "unet/diffusion_pytorch_model";
constexpr const char* kVae = "vae/diffusion_pytorch_model";

/// A copy of a tiny pipeline that a test may damage.
class Pipeline {
 public:
  explicit Pipeline(const std::string& name) : scratch_("") {
    fs::copy(pipeline_folder(name), scratch_.path(), fs::copy_options::recursive);
  }
  std::string path() const { return scratch_.path(); }
  std::string in(const std::string& file) const { return path() + "/" + file; }
  void replace(const std::string& file, const std::string& from, const std::string& to) const {
    scratch_.replace(file, from, to);
  }
  void write(const std::string& file, const std::string& text) const { scratch_.write(file, text); }
  void rename(const std::string& from, const std::string& to) const { fs::rename(in(from), in(to)); }
  void remove(const std::string& file) const { ASSERT_TRUE(fs::remove_all(in(file))) << file; }

 private:
  ScratchFolder scratch_;
};

/// What reading throws; empty when it reads.
template <class Function>
std::string failure(const Function& function) {
  try {
    function();
    return "";
  } catch (const core::DataError& error) {
    return error.what();
  }
}

void expect_parts(const std::string& message, const std::vector<std::string>& parts,
                  const std::string& what) {
  EXPECT_EQ(message.empty(), parts.empty()) << what << ": " << message;
  for (const auto& part : parts)
    EXPECT_NE(message.find(part), std::string::npos) << what << ": no '" << part << "' in\n" << message;
}

// ---- configs

TEST(DiffusionFolder, TinyPipelinesAreReadWhole) {
  const DiffusionFolder sd = DiffusionFolder::read(pipeline_folder("sd15"));
  EXPECT_EQ(sd.kind, PipelineKind::kStableDiffusion);
  EXPECT_EQ(sd.text_encoder_folders, std::vector<std::string>{"text_encoder"});
  EXPECT_EQ(sd.tokenizer_folders, std::vector<std::string>{"tokenizer"});
  ASSERT_EQ(sd.text_encoders.size(), 1u);
  EXPECT_EQ(sd.text_encoders[0].projection, 0);  // of a CLIPTextModel, whatever its config says
  EXPECT_EQ(sd.scheduler_class, "PNDMScheduler");
  EXPECT_EQ(sd.scheduler.get<std::string>("beta_schedule"), "scaled_linear");
  EXPECT_EQ(sd.vae.scaling_factor, 0.18215);
  EXPECT_EQ(sd.vae.factor(), 2);
  EXPECT_EQ(sd.unet.cross_width, 32);

  const DiffusionFolder xl = DiffusionFolder::read(pipeline_folder("sdxl"));
  EXPECT_EQ(xl.kind, PipelineKind::kStableDiffusionXL);
  EXPECT_EQ(xl.text_encoder_folders, (std::vector<std::string>{"text_encoder", "text_encoder_2"}));
  EXPECT_EQ(xl.tokenizer_folders, (std::vector<std::string>{"tokenizer", "tokenizer_2"}));
  ASSERT_EQ(xl.text_encoders.size(), 2u);
  EXPECT_EQ(xl.text_encoders[0].projection, 0);
  EXPECT_EQ(xl.text_encoders[1].projection, 40);
  EXPECT_TRUE(xl.zeros_for_empty_prompt);
  EXPECT_EQ(xl.vae.scaling_factor, 0.13025);
  EXPECT_EQ(xl.unet.time_ids_width, 8);
}

TEST(DiffusionFolder, OnlySdxlScalesLatentsByChannel) {
  for (const char* name : {"sd15", "sdxl"}) {
    const Pipeline pipeline(name);
    pipeline.replace("vae/config.json", "\"latents_mean\": null", "\"latents_mean\": [1, 2, 3, 4]");
    pipeline.replace("vae/config.json", "\"latents_std\": null", "\"latents_std\": [1, 2, 3, 4]");
    EXPECT_EQ(DiffusionFolder::read(pipeline.path()).vae.latents_std.size(), name[2] == 'x' ? 4u : 0u)
        << name;
  }
}

TEST(DiffusionFolder, TheIndexSaysWhichTextEncoderProjects) {
  const Pipeline pipeline("sdxl");
  pipeline.replace("text_encoder/config.json", "\"CLIPTextModel\"", "\"CLIPTextModelWithProjection\"");
  pipeline.replace("text_encoder_2/config.json", "\"CLIPTextModelWithProjection\"", "\"CLIPTextModel\"");
  const DiffusionFolder folder = DiffusionFolder::read(pipeline.path());
  EXPECT_EQ(folder.text_encoders[0].projection, 0);
  EXPECT_EQ(folder.text_encoders[1].projection, 40);
}

struct ChangeRow {
  const char* what;
  const char* pipeline;
  std::function<void(const Pipeline&)> change;
  std::vector<std::string> parts;  // of the message; none: it is read
};

const ChangeRow kChanges[] = {
    {"as it is", "sd15", [](const Pipeline&) {}, {}},
    {"pipeline class",
     "sd15",
     [](const Pipeline& p) { p.replace("model_index.json", "StableDiffusionPipeline", "FluxPipeline"); },
     {"model_index.json: key '_class_name' is 'FluxPipeline'; the pipelines known are "
      "StableDiffusionPipeline"}},
    {"others' components are ignored",
     "sd15",
     [](const Pipeline& p) {
       p.replace("model_index.json", "\"requires_safety_checker\": false,",
                 "\"requires_safety_checker\": true, \"watermark\": \"x\", \"spare\": [null, null],");
       p.replace("model_index.json", "\"safety_checker\": [\n    null,\n    null",
                 "\"safety_checker\": [\"stable_diffusion\", \"StableDiffusionSafetyChecker\"");
     },
     {}},
    {"an unknown component",
     "sd15",
     [](const Pipeline& p) {
       p.replace("model_index.json", "\"vae\": [", "\"movq\": [\"diffusers\", \"VQModel\"], \"vae\": [");
     },
     {"key 'movq' is a component (of class 'VQModel') that a StableDiffusionPipeline is not known to have"}},
    {"component class",
     "sd15",
     [](const Pipeline& p) { p.replace("model_index.json", "AutoencoderKL", "AsymmetricAutoencoderKL"); },
     {"key 'vae' is of class 'AsymmetricAutoencoderKL'; known: AutoencoderKL"}},
    {"the second encoder projects",
     "sdxl",
     [](const Pipeline& p) { p.replace("model_index.json", "CLIPTextModelWithProjection", "CLIPTextModel"); },
     {"key 'text_encoder_2' is of class 'CLIPTextModel'; known: CLIPTextModelWithProjection"}},
    {"no text encoder",
     "sdxl",
     [](const Pipeline& p) {
       p.replace("model_index.json", "\"transformers\",\n    \"CLIPTextModel\"\n", "null,\n    null\n");
     },
     {"key 'text_encoder' is null, but pictures are not made without it"}},
    {"absent component",
     "sd15",
     [](const Pipeline& p) { p.replace("model_index.json", "\"vae\"", "\"vae_encoder\""); },
     {"key 'vae_encoder' is a component"}},
    {"no index",
     "sd15",
     [](const Pipeline& p) { p.remove("model_index.json"); },
     {"there is no model_index.json; expected the folder of a text-to-image pipeline in diffusers' layout"}},
    {"no component folder",
     "sd15",
     [](const Pipeline& p) { p.remove("unet"); },
     {"model_index.json names the component unet, but there is no unet/config.json"}},
    {"no scheduler",
     "sd15",
     [](const Pipeline& p) { p.remove("scheduler"); },
     {"there is no scheduler/scheduler_config.json"}},
    {"encoder and UNet",
     "sd15",
     [](const Pipeline& p) {
       p.replace("unet/config.json", "\"cross_attention_dim\": 32", "\"cross_attention_dim\": 64");
     },
     {"unet/config.json: key 'cross_attention_dim' is 64, but the pipeline's text encoders make states of "
      "width 32"}},
    {"inpainting",
     "sd15",
     [](const Pipeline& p) { p.replace("unet/config.json", "\"in_channels\": 4", "\"in_channels\": 9"); },
     {"unet/config.json: key 'in_channels' is 9, but the VAE has 4 latent channels; pipelines for "
      "inpainting"}},
    {"pictures with transparency",
     "sd15",
     [](const Pipeline& p) { p.replace("vae/config.json", "\"out_channels\": 3", "\"out_channels\": 4"); },
     {"vae/config.json: key 'out_channels' is 4, but a picture has 3"}},
    {"a tokenizer without room",
     "sd15",
     [](const Pipeline& p) { p.replace("tokenizer/tokenizer_config.json", ": 77", ": 2"); },
     {"tokenizer/tokenizer_config.json: key 'model_max_length' is 2, expected 3 or more"}},
    {"a tokenizer without a limit",
     "sd15",
     [](const Pipeline& p) { p.replace("tokenizer/tokenizer_config.json", ": 77", ": 1e30"); },
     {}},
    {"SDXL's UNet in an SD pipeline",
     "sdxl",
     [](const Pipeline& p) {
       p.replace("unet/config.json", "\"projection_class_embeddings_input_dim\": 88",
                 "\"projection_class_embeddings_input_dim\": 80");
     },
     {"key 'projection_class_embeddings_input_dim' is 80, but text_encoder_2's projection and 6 sizes of 8 "
      "numbers each make 88"}},
};

TEST(DiffusionFolder, ConfigsThatDoNotFitAreNamed) {
  for (const ChangeRow& row : kChanges) {
    const Pipeline pipeline(row.pipeline);
    row.change(pipeline);
    expect_parts(failure([&] { DiffusionFolder::read(pipeline.path()); }), row.parts, row.what);
  }
  expect_parts(failure([] { DiffusionFolder::read("/no/such/folder"); }),
               {"/no/such/folder: no such pipeline folder"}, "");
  expect_parts(failure([] { DiffusionFolder::read("model.safetensors"); }), {"from_single_file"}, "");
}

// ---- files of weights

using Tensors = ScratchFolder::Tensors;

Tensors read_tensors(const std::string& path) {
  const auto file = formats::Safetensors::open(path);
  Tensors out;
  for (const std::string& name : file.names()) {
    const auto view = file.find(name);
    out[name] = {std::string(formats::dtype_name(view->dtype)),
                 view->shape,
                 {reinterpret_cast<const char*>(view->bytes.data()), view->bytes.size()}};
  }
  return out;
}

/// All of them in fp16.
void write_tensors(const std::string& path, const Tensors& tensors) {
  formats::SafetensorsWriter::Config config{.path = path};
  for (const auto& [name, tensor] : tensors)
    config.tensors.push_back({name, formats::DType::kF16, tensor.shape});
  formats::SafetensorsWriter writer(config);
  for (const auto& spec : writer.tensors())
    writer.write(spec.name, std::as_bytes(std::span(tensors.at(spec.name).bytes)));
  writer.finish();
}

/// STEM.safetensors as two shards and an index.
void shard(const Pipeline& pipeline, const std::string& stem, const std::string& index,
           const std::string& shard_name) {
  const Tensors all = read_tensors(pipeline.in(stem + ".safetensors"));
  std::vector<Tensors> shards(2);
  std::string map;
  for (const auto& [name, tensor] : all) {
    const std::size_t which = map.size() < 2000 ? 0 : 1;
    shards[which][name] = tensor;
    map += fmt::format("{}{}: \"{}\"", map.empty() ? "" : ",", core::json_quote(name),
                       fmt::format(fmt::runtime(shard_name), which + 1));
  }
  const fs::path folder = fs::path(pipeline.in(stem)).parent_path();
  for (std::size_t i = 0; i < 2; ++i)
    write_tensors((folder / fmt::format(fmt::runtime(shard_name), i + 1)).string(), shards[i]);
  pipeline.write(index, fmt::format("{{\"metadata\": {{}}, \"weight_map\": {{{}}}}}", map));
  pipeline.remove(stem + ".safetensors");
}

struct VariantRow {
  const char* what;
  std::function<void(const Pipeline&)> change;
  std::vector<std::string> files;  // of unet
};

const VariantRow kVariants[] = {
    {"plain", [](const Pipeline&) {}, {"unet/diffusion_pytorch_model.safetensors"}},
    {"fp16",
     [](const Pipeline& p) {
       p.rename("unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors");
     },
     {"unet/diffusion_pytorch_model.fp16.safetensors"}},
    {"both: full precision",
     [](const Pipeline& p) { p.write("unet/diffusion_pytorch_model.fp16.safetensors", "nothing"); },
     {"unet/diffusion_pytorch_model.safetensors"}},
    {"shards",
     [](const Pipeline& p) {
       shard(p, kUNet, "unet/diffusion_pytorch_model.safetensors.index.json",
             "diffusion_pytorch_model-0000{}-of-00002.safetensors");
     },
     {"unet/diffusion_pytorch_model-00001-of-00002.safetensors",
      "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
      "unet/diffusion_pytorch_model.safetensors.index.json"}},
    {"fp16 shards",
     [](const Pipeline& p) {
       shard(p, kUNet, "unet/diffusion_pytorch_model.safetensors.index.fp16.json",
             "diffusion_pytorch_model.fp16-0000{}-of-00002.safetensors");
     },
     {"unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
      "unet/diffusion_pytorch_model.fp16-00002-of-00002.safetensors",
      "unet/diffusion_pytorch_model.safetensors.index.fp16.json"}},
};

TEST(DiffusionFolder, WeightsAreFoundInEveryLayout) {
  const auto plain = open_component(pipeline_folder("sd15"), "unet");
  for (const VariantRow& row : kVariants) {
    const Pipeline pipeline("sd15");
    row.change(pipeline);
    const auto found = open_component(pipeline.path(), "unet");
    EXPECT_EQ(found.names(), plain.names()) << row.what;
    UNet2D unet(DiffusionFolder::read(pipeline.path()).unet);
    load_component(unet, found, pipeline.in("unet/config.json"));
    std::vector<std::string> expected{"model_index.json",
                                      "scheduler/scheduler_config.json",
                                      "text_encoder/config.json",
                                      "text_encoder/model.safetensors",
                                      "tokenizer/merges.txt",
                                      "tokenizer/special_tokens_map.json",
                                      "tokenizer/tokenizer_config.json",
                                      "tokenizer/vocab.json",
                                      "unet/config.json",
                                      "vae/config.json",
                                      "vae/diffusion_pytorch_model.safetensors"};
    expected.insert(expected.end(), row.files.begin(), row.files.end());
    std::sort(expected.begin(), expected.end());
    EXPECT_EQ(DiffusionFolder::read(pipeline.path()).files(), expected) << row.what;
  }
}

TEST(DiffusionFolder, FolderWithoutReadableWeightsSaysWhatToDo) {
  const Pipeline pipeline("sd15");
  pipeline.remove("unet/diffusion_pytorch_model.safetensors");
  const auto open = [&] { open_component(pipeline.path(), "unet"); };
  expect_parts(failure(open),
               {"/unet: there is no diffusion_pytorch_model.safetensors (nor", "is the folder complete?"},
               "");
  pipeline.write("unet/diffusion_pytorch_model.bin", "pickle");
  expect_parts(failure(open),
               {"Python pickles, which are not read: convert them with diffusers' save_pretrained"}, "");
  pipeline.remove("unet");
  expect_parts(failure(open), {"/unet: no such folder"}, "");
}

// ---- strict loading

/// Loads a component of the fixture with its tensors changed.
std::string load_changed(const std::string& name, const std::string& stem,
                         const std::function<void(Tensors&)>& change) {
  const Pipeline pipeline(name);
  Tensors tensors = read_tensors(pipeline.in(stem + ".safetensors"));
  change(tensors);
  write_tensors(pipeline.in(stem + ".safetensors"), tensors);
  const DiffusionFolder folder = DiffusionFolder::read(pipeline.path());
  const std::string component = stem.substr(0, stem.find('/'));
  std::unique_ptr<nn::Module> module;
  if (component == "vae") module = std::make_unique<AutoencoderKL>(folder.vae, AutoencoderParts::kBoth);
  if (component == "unet") module = std::make_unique<UNet2D>(folder.unet);
  if (component == "text_encoder") module = std::make_unique<ClipText>(folder.text_encoders[0]);
  const auto checkpoint = open_component(pipeline.path(), component);
  return failure([&] { load_component(*module, checkpoint, pipeline.in(component + "/config.json")); });
}

void rename_parts(Tensors& tensors, const std::string& from, const std::string& to) {
  Tensors out;
  std::size_t renamed = 0;
  for (auto& [name, tensor] : tensors) {
    std::string other = name;
    if (const auto at = name.find(from); at != std::string::npos) {
      other.replace(at, from.size(), to);
      ++renamed;
    }
    out[other] = std::move(tensor);
  }
  EXPECT_GT(renamed, 0u) << from;
  tensors = std::move(out);
}

// As published autoencoders were saved before diffusers 0.17.
void make_old(Tensors& tensors) {
  for (const auto& [now, then] : {std::pair{".to_q.", ".query."},
                                  {".to_k.", ".key."},
                                  {".to_v.", ".value."},
                                  {".to_out.0.", ".proj_attn."}})
    rename_parts(tensors, now, then);
  for (auto& [name, tensor] : tensors)
    if (name.find(".attentions.") != std::string::npos && tensor.shape.size() == 2)
      tensor.shape.insert(tensor.shape.end(), {1, 1});
}

struct WeightRow {
  const char* what;
  const char* pipeline;
  const char* stem;
  std::function<void(Tensors&)> change;
  std::vector<std::string> parts;  // of the message; none: it loads
};

const WeightRow kWeightRows[] = {
    {"unchanged VAE", "sd15", kVae, [](Tensors&) {}, {}},
    {"old attention, of convolutions", "sd15", kVae, make_old, {}},
    {"unchanged UNet", "sdxl", kUNet, [](Tensors&) {}, {}},
    {"names without text_model.",
     "sd15",
     "text_encoder/model",
     [](Tensors& t) { ASSERT_TRUE(t.contains("final_layer_norm.bias")); },
     {}},
    {"old names and buffers",
     "sd15",
     "text_encoder/model",
     [](Tensors& t) {
       Tensors out;
       for (auto& [name, tensor] : t) out["text_model." + name] = tensor;
       out["text_model.embeddings.position_ids"] = {"F16", {1, 2}, std::string(4, '\0')};
       t = out;
     },
     {}},
    {"everything wrong at once",
     "sd15",
     kVae,
     [](Tensors& t) {
       t.erase("decoder.conv_in.bias");
       t["encoder.conv_in.weight"].shape = {8, 3, 9};
       t["decoder.mid_block.attentions.0.to_q.weight"].shape = {4, 4, 4, 4};
       t["surprise"] = {"F16", {2}, std::string(4, '\0')};
     },
     {"'decoder.conv_in.bias' is missing, expected [16] (config block_out_channels=16)",
      "'encoder.conv_in.weight' is [8,3,9], config block_out_channels=8, in_channels=3 expects [8,3,3,3]",
      "'decoder.mid_block.attentions.0.to_q.weight' is [4,4,4,4]", "'surprise' [2] is not part of the model",
      "vae/config.json the right config"}},
    {"a layer too many",
     "sdxl",
     kUNet,
     [](Tensors& t) {
       t["encoder.extra"] = {"F16", {1}, std::string(2, '\0')};
     },
     {"'encoder.extra' [1] is not part of the model"}},
};

TEST(DiffusionFolder, WeightsAreLoadedStrictly) {
  for (const WeightRow& row : kWeightRows)
    expect_parts(load_changed(row.pipeline, row.stem, row.change), row.parts, row.what);
}

TEST(DiffusionFolder, OldVaeGivesTheSamePicture) {
  const Pipeline pipeline("sd15");
  Tensors tensors = read_tensors(pipeline.in(std::string(kVae) + ".safetensors"));
  make_old(tensors);
  write_tensors(pipeline.in(std::string(kVae) + ".safetensors"), tensors);
  std::vector<at::Tensor> pictures;
  for (const std::string& folder : {pipeline.path(), pipeline_folder("sd15")}) {
    const auto checkpoint = open_component(folder, "vae");
    AutoencoderKL vae(DiffusionFolder::read(folder).vae, AutoencoderParts::kDecoder);
    load_component(vae, checkpoint, folder + "/vae/config.json");
    vae.prepare({});
    pictures.push_back(vae.decode(at::arange(4 * 15, at::kFloat).view({1, 4, 3, 5}).sin()));
  }
  EXPECT_TRUE(same_bytes(pictures[0], pictures[1]));
}

// ---- sizes

double bytes_below(const formats::Safetensors& checkpoint, const std::vector<std::string>& prefixes) {
  double sum = 0;
  for (const std::string& name : checkpoint.names())
    for (const std::string& prefix : prefixes)
      if (name.starts_with(prefix)) sum += static_cast<double>(checkpoint.find(name)->bytes.size());
  return sum;
}

TEST(DiffusionFolder, PartBytesAreTheBytesOfTheTensors) {
  for (const std::string name : {"sd15", "sd2", "sdxl"}) {
    const std::string path = pipeline_folder(name);
    const DiffusionFolder folder = DiffusionFolder::read(path);
    double text = 0;
    for (const std::string& encoder : folder.text_encoder_folders)
      text += bytes_below(open_component(path, encoder), {""});
    const double unet = bytes_below(open_component(path, "unet"), {""});
    const double vae = bytes_below(open_component(path, "vae"), {"decoder.", "post_quant_conv."});
    for (const std::int64_t element : {2, 4}) {
      const auto parts = part_bytes(folder, element);
      ASSERT_EQ(parts.size(), 3u);
      const auto scale = static_cast<double>(element) / 2;  // the fixtures are fp16
      EXPECT_EQ(parts[0].part, "text encoders");
      EXPECT_DOUBLE_EQ(parts[0].bytes, scale * text) << name;
      EXPECT_EQ(parts[1].part, "UNet");
      EXPECT_DOUBLE_EQ(parts[1].bytes, scale * unet) << name;
      EXPECT_EQ(parts[2].part, "VAE");
      EXPECT_DOUBLE_EQ(parts[2].bytes, scale * vae) << name;
    }
  }
}

/// Parameters that diffusers and transformers count for the published configs.
struct PublishedRow {
  const char* name;
  double text, unet, vae_decoder;
  std::int64_t sample_size;
};

constexpr PublishedRow kPublished[] = {
    {"sd15", 123'060'480, 859'520'964, 49'490'199, 64},
    {"sd21", 340'387'840, 865'910'724, 49'490'199, 96},
    {"sdxl", 123'060'480 + 694'659'840, 2'567'463'684, 49'490'199, 128},
};

TEST(DiffusionFolder, PublishedConfigsHaveTheKnownParameterCounts) {
  for (const PublishedRow& row : kPublished) {
    const DiffusionFolder folder = DiffusionFolder::read((fixture_root() / "pipelines" / row.name).string());
    const auto parts = part_bytes(folder, 1);
    EXPECT_EQ(parts[0].bytes, row.text) << row.name;
    EXPECT_EQ(parts[1].bytes, row.unet) << row.name;
    EXPECT_EQ(parts[2].bytes, row.vae_decoder) << row.name;
    EXPECT_EQ(AutoencoderKL(folder.vae, AutoencoderParts::kBoth).parameter_count(), 83'653'863u) << row.name;
    EXPECT_EQ(folder.unet.sample_size, row.sample_size);
    EXPECT_EQ(folder.vae.factor(), 8);
    EXPECT_EQ(folder.vae.layers, 2);
  }
}

}  // namespace
}  // namespace muster::models
