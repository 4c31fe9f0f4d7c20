// SPDX-License-Identifier: Apache-2.0
#include "muster/report/contact_sheet.h"

#include <algorithm>
#include <cmath>

#include "muster/core/error.h"
#include "muster/formats/utf8.h"
#include "report/pixel_font.h"

namespace muster::report {
namespace {

using formats::Image;

constexpr std::uint32_t kPaper = 250, kInk = 32, kBoxInk = 128;
constexpr std::uint32_t kMargin = 8, kCaptionLines = 2;
constexpr std::uint32_t kOneRow = 5;          // so few pictures stand beside each other
constexpr std::uint32_t kNarrowestCell = 96;  // a caption of a few words fits below the smallest pictures
constexpr std::uint32_t kLargeLetters = 192;  // from this width of a cell on letters are drawn twice as large

/// RGB of one pixel, whatever the picture's channels; what is transparent shows the paper.
std::uint32_t channel_at(const Image& image, std::size_t pixel, std::size_t channel) {
  const std::uint8_t* at = image.pixels.data() + pixel * image.channels;
  if (image.channels == 1) return at[0];
  if (image.channels == 3) return at[channel];
  const std::uint32_t alpha = at[3];
  return (at[channel] * alpha + kPaper * (255 - alpha) + 127) / 255;
}

/// Which source pixels a target pixel covers, and how much of each, in 1 / target units: all weights of a
/// pixel add up to the source's length.
struct Cover {
  std::uint32_t first = 0;
  std::vector<std::uint32_t> weights;
};

std::vector<Cover> covers(std::uint32_t source, std::uint32_t target) {
  std::vector<Cover> out(target);
  for (std::uint64_t t = 0; t < target; ++t) {
    const std::uint64_t begin = t * source, end = begin + source;  // a source pixel is `target` long
    out[t].first = static_cast<std::uint32_t>(begin / target);
    for (std::uint64_t s = out[t].first; s * target < end; ++s)
      out[t].weights.push_back(
          static_cast<std::uint32_t>(std::min(end, (s + 1) * target) - std::max(begin, s * target)));
  }
  return out;
}

/// A sheet of paper to draw on.
class Canvas {
 public:
  Canvas(std::uint32_t width, std::uint32_t height) {
    image_ = {.width = width, .height = height, .channels = 3, .pixels = {}};
    image_.pixels.assign(std::size_t{width} * height * 3, static_cast<std::uint8_t>(kPaper));
  }

  void paste(const Image& picture, std::uint32_t left, std::uint32_t top) {
    for (std::uint32_t y = 0; y < picture.height; ++y)
      for (std::uint32_t x = 0; x < picture.width; ++x)
        for (std::size_t c = 0; c < 3; ++c)
          at(left + x, top + y)[c] =
              static_cast<std::uint8_t>(channel_at(picture, std::size_t{y} * picture.width + x, c));
  }

  void dot(std::uint32_t x, std::uint32_t y, std::uint32_t scale, std::uint32_t grey) {
    for (std::uint32_t dy = 0; dy < scale; ++dy)
      for (std::uint32_t dx = 0; dx < scale; ++dx)
        for (std::size_t c = 0; c < 3; ++c) at(x + dx, y + dy)[c] = static_cast<std::uint8_t>(grey);
  }

  Image take() { return std::move(image_); }

 private:
  std::uint8_t* at(std::uint32_t x, std::uint32_t y) {
    return image_.pixels.data() + (std::size_t{y} * image_.width + x) * 3;
  }
  Image image_;
};

/// Letters of one size on a canvas.
class Pen {
 public:
  Pen(Canvas& canvas, std::uint32_t scale) : canvas_(canvas), scale_(scale) {}

  void write(const std::vector<Letter>& line, std::uint32_t x, std::uint32_t y) {
    for (const auto& letter : line) {
      letter.glyph != nullptr ? draw_glyph(*letter.glyph, x, y) : draw_box(letter, x, y);
      x += letter.width * scale_;
    }
  }

 private:
  void draw_glyph(const Glyph& glyph, std::uint32_t x, std::uint32_t y) {
    for (std::uint32_t row = 0; row < kCellHeight; ++row)
      for (std::uint32_t column = 0; column < 5; ++column)
        if ((glyph[row] >> (4 - column) & 1) != 0)
          canvas_.dot(x + column * scale_, y + row * scale_, scale_, kInk);
  }

  /// The code point in two rows of digits, framed.
  void draw_box(const Letter& letter, std::uint32_t x, std::uint32_t y) {
    const std::uint32_t width = letter.width - 1, height = kCellHeight;
    for (std::uint32_t column = 0; column < width; ++column)
      for (const std::uint32_t row : {0u, height - 1})
        canvas_.dot(x + column * scale_, y + row * scale_, scale_, kBoxInk);
    for (std::uint32_t row = 0; row < height; ++row)
      for (const std::uint32_t column : {0u, width - 1})
        canvas_.dot(x + column * scale_, y + row * scale_, scale_, kBoxInk);
    const std::uint32_t columns = (letter.width - 4) / 4;
    for (std::uint32_t place = 0; place < 2 * columns; ++place) {
      const auto rows = small_digit(letter.code >> 4 * (2 * columns - 1 - place));
      for (std::uint32_t row = 0; row < rows.size(); ++row)
        for (std::uint32_t column = 0; column < 3; ++column)
          if ((rows[row] >> (2 - column) & 1) != 0)
            canvas_.dot(x + (2 + place % columns * 4 + column) * scale_,
                        y + (1 + place / columns * 6 + row) * scale_, scale_, kInk);
    }
  }

  Canvas& canvas_;
  std::uint32_t scale_;
};

std::uint32_t width_of(const std::vector<Letter>& line) {
  std::uint32_t width = 0;
  for (const auto& letter : line) width += letter.width;
  return width;
}

/// Letters of a caption in lines of at most `width`, broken at spaces where there are some; the last line
/// ends with an ellipsis when more would follow.
std::vector<std::vector<Letter>> broken(const std::vector<Letter>& letters, std::uint32_t width) {
  std::vector<std::vector<Letter>> lines(1);
  const auto fits = [&](const std::vector<Letter>& line, const Letter& letter) {
    return width_of(line) + letter.width <= width + 1;  // the gap behind the last letter may stand out
  };
  for (std::size_t i = 0; i < letters.size(); ++i) {
    if (fits(lines.back(), letters[i])) {
      lines.back().push_back(letters[i]);
      continue;
    }
    if (lines.size() == kCaptionLines) {
      const Letter ellipsis = letters_of("\xE2\x80\xA6").front();
      while (!lines.back().empty() && !fits(lines.back(), ellipsis)) lines.back().pop_back();
      lines.back().push_back(ellipsis);
      return lines;
    }
    std::vector<Letter> next;
    auto& full = lines.back();
    const auto space =
        std::find_if(full.rbegin(), full.rend(), [](const Letter& l) { return l.code == ' '; });
    if (letters[i].code == ' ') {
      lines.emplace_back();
      continue;
    }
    if (space != full.rend()) {
      next.assign(space.base(), full.end());
      full.erase(space.base() - 1, full.end());
    }
    lines.push_back(std::move(next));
    --i;
  }
  return lines;
}

struct Grid {
  std::uint32_t columns = 0, rows = 0, cell_width = 0, cell_height = 0, picture_height = 0, scale = 1;
};

Grid grid_of(const std::vector<Image>& thumbnails, const SheetConfig& config) {
  Grid grid;
  std::uint32_t width = kNarrowestCell, height = 1;
  for (const auto& image : thumbnails) {
    width = std::max(width, image.width);
    height = std::max(height, image.height);
  }
  grid.scale = width >= kLargeLetters ? 2 : 1;
  grid.picture_height = height;
  grid.cell_width = width;
  grid.cell_height = height + kMargin / 2 + kCaptionLines * kCellHeight * grid.scale;
  const auto count = static_cast<std::uint32_t>(std::max<std::size_t>(thumbnails.size(), 1));
  const double square =
      std::sqrt(static_cast<double>(count) * (grid.cell_height + kMargin) / (width + kMargin));
  grid.columns = count <= kOneRow ? count : static_cast<std::uint32_t>(std::ceil(square - 1e-9));
  if (config.columns != 0) grid.columns = config.columns;
  grid.columns = std::clamp(grid.columns, 1u, count);
  grid.rows = (count + grid.columns - 1) / grid.columns;
  return grid;
}

}  // namespace

Image thumbnail(const Image& image, std::uint32_t most) {
  core::internal_check(image.width > 0 && image.height > 0 && most > 0, "a picture has pixels");
  const std::uint32_t longer = std::max(image.width, image.height);
  const auto shrunk = [&](std::uint32_t side) {
    if (longer <= most) return side;
    return static_cast<std::uint32_t>(
        std::max<std::uint64_t>((std::uint64_t{side} * most + longer / 2) / longer, 1));
  };
  Image out{.width = shrunk(image.width), .height = shrunk(image.height), .channels = 3, .pixels = {}};
  out.pixels.resize(std::size_t{out.width} * out.height * 3);
  const auto across = covers(image.width, out.width), down = covers(image.height, out.height);
  const std::uint64_t area = std::uint64_t{image.width} * image.height;
  for (std::size_t y = 0; y < out.height; ++y) {
    for (std::size_t x = 0; x < out.width; ++x) {
      std::uint64_t sums[3] = {area / 2, area / 2, area / 2};
      for (std::size_t v = 0; v < down[y].weights.size(); ++v)
        for (std::size_t h = 0; h < across[x].weights.size(); ++h) {
          const std::size_t pixel = (down[y].first + v) * image.width + across[x].first + h;
          const std::uint64_t weight = std::uint64_t{down[y].weights[v]} * across[x].weights[h];
          for (std::size_t c = 0; c < 3; ++c) sums[c] += weight * channel_at(image, pixel, c);
        }
      for (std::size_t c = 0; c < 3; ++c)
        out.pixels[(y * out.width + x) * 3 + c] = static_cast<std::uint8_t>(sums[c] / area);
    }
  }
  return out;
}

Image contact_sheet(const std::vector<Captioned>& pictures, const SheetConfig& config) {
  std::vector<Image> thumbnails;
  for (const auto& picture : pictures) thumbnails.push_back(thumbnail(picture.image, config.thumbnail));
  const Grid grid = grid_of(thumbnails, config);
  Canvas canvas(kMargin + grid.columns * (grid.cell_width + kMargin),
                kMargin + grid.rows * (grid.cell_height + kMargin));
  Pen pen(canvas, grid.scale);
  for (std::uint32_t i = 0; i < thumbnails.size(); ++i) {
    const auto& image = thumbnails[i];
    const std::uint32_t left = kMargin + i % grid.columns * (grid.cell_width + kMargin);
    const std::uint32_t top = kMargin + i / grid.columns * (grid.cell_height + kMargin);
    canvas.paste(image, left + (grid.cell_width - image.width) / 2,
                 top + (grid.picture_height - image.height) / 2);
    std::string caption;
    formats::assign_utf8_replaced(pictures[i].caption, caption);
    std::uint32_t y = top + grid.picture_height + kMargin / 2;
    for (const auto& line : broken(letters_of(caption), grid.cell_width / grid.scale)) {
      const std::uint32_t width = std::min(width_of(line) * grid.scale, grid.cell_width);
      pen.write(line, left + (grid.cell_width - width) / 2, y);
      y += kCellHeight * grid.scale;
    }
  }
  return canvas.take();
}

}  // namespace muster::report
