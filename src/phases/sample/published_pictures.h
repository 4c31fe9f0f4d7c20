// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "muster/phases/item_phase.h"
#include "phases/sample/picture_record.h"

namespace muster::phases {

/// The records of a finished job, in the order of its items; failed ones are left out.
class PublishedPictures {
 public:
  explicit PublishedPictures(const PublishContext& context);
  std::uint64_t size() const { return places_.size(); }
  std::uint64_t item(std::uint64_t position) const { return places_[position].item; }
  /// DataError when the record is damaged.
  PictureRecord read(std::uint64_t position) const;

 private:
  struct Place {
    std::uint64_t item = 0, offset = 0;
    std::uint32_t payload_bytes = 0, entry = 0;
  };
  const PublishContext& context_;
  std::vector<Place> places_;
};

/// images.h5, by one rank. Rows as the pictures; `ids` are theirs.
struct ImagesFile {
  std::string path;
  std::map<std::string, io::H5Attribute> attributes;
  std::vector<std::string> ids;
  std::function<void(const std::string&)> step;
};
struct PictureTotals {
  std::uint64_t truncated = 0, decoded_again = 0;
};
PictureTotals write_images_file(const ImagesFile& file, const PublishedPictures& pictures);

/// What `verify --redo` compares: of images.h5, and of a record as a worker makes it.
std::vector<std::byte> published_picture(const std::string& directory, std::uint64_t position);
std::vector<std::byte> as_published_picture(std::span<const std::byte> payload);

}  // namespace muster::phases
