#include "data/jinja/value.h"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/utf8.h"
#include "data/jinja/unicode.h"

namespace flyover::data::jinja {
namespace {

/// `outer` with one more value within it.
Extent including(Extent outer, const Extent& inner) {
  base::require(inner.depth < kMaximumNesting, "more than {} values nested in each other", kMaximumNesting);
  outer.depth = std::max(outer.depth, inner.depth + 1);
  outer.weight += inner.weight;
  base::require(outer.weight <= kMaximumWeight, "a value that holds more than {} values", kMaximumWeight);
  return outer;
}

Extent extent_of(const std::vector<Value>& items) {
  Extent extent;
  for (const Value& item : items) {
    extent = including(extent, item.extent());
  }
  return extent;
}

/// A text that is equal for equal keys: Python's hash and equality of 1, 1.0 and True agree.
void encode_key(const Value& key, std::string& out) {
  switch (key.kind()) {
    case Kind::kUndefined:
      out += 'u';
      return;
    case Kind::kNone:
      out += 'z';
      return;
    case Kind::kBoolean:
    case Kind::kInteger:
      out += fmt::format("n{}", key.as_integer());
      return;
    case Kind::kFloat: {
      const double value = key.as_double();
      const bool integral = std::floor(value) == value && std::fabs(value) < 9.0e18;
      out += integral ? fmt::format("n{}", static_cast<std::int64_t>(value)) : fmt::format("f{}", value);
      return;
    }
    case Kind::kString:
      out += fmt::format("s{}:", key.text().size());
      out += key.text();
      return;
    case Kind::kTuple:
      out += '(';
      for (const Value& item : key.items()) {
        encode_key(item, out);
      }
      out += ')';
      return;
    default:
      base::fail("unhashable type: '{}' cannot be the key of a dict", type_name(key));
  }
}

std::string encoded_key(const Value& key) {
  std::string out;
  encode_key(key, out);
  return out;
}

/// Below this many entries a dict is searched from front to back.
constexpr std::size_t kIndexedSize = 8;

}  // namespace

void require_string_size(std::uint64_t bytes) {
  base::require(bytes <= kMaximumStringBytes, "a string of {} bytes is longer than the limit of {}", bytes,
                kMaximumStringBytes);
}

void require_element_count(std::uint64_t elements) {
  base::require(elements <= kMaximumElements, "a list of {} elements is longer than the limit of {}", elements,
                kMaximumElements);
}

std::int64_t Range::length() const {
  if (step > 0 ? start >= stop : start <= stop) {
    return 0;
  }
  const auto distance = step > 0 ? static_cast<std::uint64_t>(stop) - static_cast<std::uint64_t>(start)
                                 : static_cast<std::uint64_t>(start) - static_cast<std::uint64_t>(stop);
  const auto stride = step > 0 ? static_cast<std::uint64_t>(step) : std::uint64_t{0} - static_cast<std::uint64_t>(step);
  return static_cast<std::int64_t>(std::min<std::uint64_t>((distance - 1) / stride + 1, INT64_MAX));
}

template <typename Contents>
Value Value::of(Contents contents) {
  Value value;
  value.data_ = std::move(contents);
  return value;
}

Value Value::undefined(std::string hint) {
  return of(std::make_shared<const std::string>(std::move(hint)));
}
Value Value::none() {
  return of(std::monostate());
}
Value Value::boolean(bool value) {
  return of(value);
}
Value Value::integer(std::int64_t value) {
  return of(value);
}
Value Value::number(double value) {
  return of(value);
}
Value Value::string(std::string text) {
  require_string_size(text.size());
  return of(std::make_shared<const String>(String{std::move(text), false}));
}
Value Value::markup(std::string text) {
  require_string_size(text.size());
  return of(std::make_shared<const String>(String{std::move(text), true}));
}

Value Value::of_sequence(Sequence sequence) {
  require_element_count(sequence.items.size());
  sequence.extent = extent_of(sequence.items);
  return of(std::make_shared<const Sequence>(std::move(sequence)));
}

Value Value::list(std::vector<Value> items) {
  return of_sequence({Sequence::Type::kList, {}, std::move(items), {}});
}
Value Value::tuple(std::vector<Value> items) {
  return of_sequence({Sequence::Type::kTuple, {}, std::move(items), {}});
}
Value Value::view(std::string name, std::vector<Value> items) {
  return of_sequence({Sequence::Type::kView, std::move(name), std::move(items), {}});
}

Value Value::iterator(std::vector<Value> items) {
  require_element_count(items.size());
  const Extent extent = extent_of(items);
  return of(std::make_shared<Iterator>(Iterator{std::move(items), 0, extent}));
}

Value Value::range(Range range) {
  return of(std::make_shared<const Range>(range));
}
Value Value::dict(Dict dict) {
  require_element_count(dict.entries().size());
  return of(std::make_shared<const Dict>(std::move(dict)));
}
Value Value::name_space(Namespace* attributes) {
  return of(attributes);
}
Value Value::function(Function function) {
  function.extent = including({}, function.extent);
  return of(std::make_shared<const Function>(std::move(function)));
}
Value Value::loop(std::shared_ptr<Loop> loop) {
  loop->extent = extent_of(loop->candidates.empty() ? loop->items : loop->candidates);
  return of(std::move(loop));
}

Value Value::from_json(const base::Json& json, int depth) {
  base::require(depth < kMaximumNesting, "more than {} values nested in each other", kMaximumNesting);
  switch (json.type()) {
    case base::Json::value_t::null:
      return none();
    case base::Json::value_t::boolean:
      return boolean(json.get<bool>());
    case base::Json::value_t::number_integer:
      return integer(json.get<std::int64_t>());
    case base::Json::value_t::number_unsigned: {
      const auto value = json.get<std::uint64_t>();
      base::require(value <= static_cast<std::uint64_t>(INT64_MAX), "the integer {} does not fit into 64 bits", value);
      return integer(static_cast<std::int64_t>(value));
    }
    case base::Json::value_t::number_float:
      return number(json.get<double>());
    case base::Json::value_t::string: {
      const auto& text = json.get_ref<const std::string&>();
      base::require(base::find_invalid_utf8(text) == std::string::npos, "a text is not valid UTF-8 (byte {})",
                    base::find_invalid_utf8(text));
      return string(text);
    }
    case base::Json::value_t::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const base::Json& item : json) {
        items.push_back(from_json(item, depth + 1));
      }
      return list(std::move(items));
    }
    case base::Json::value_t::object: {
      Dict entries;
      for (const auto& [key, item] : json.items()) {
        base::require(base::find_invalid_utf8(key) == std::string::npos, "a key is not valid UTF-8");
        entries.set(string(key), from_json(item, depth + 1));
      }
      return dict(std::move(entries));
    }
    default:
      base::fail("binary data cannot be given to a template");
  }
}

Kind Value::kind() const {
  if (const auto* sequence = std::get_if<SequencePointer>(&data_)) {
    switch ((*sequence)->type) {
      case Sequence::Type::kList:
        return Kind::kList;
      case Sequence::Type::kTuple:
        return Kind::kTuple;
      case Sequence::Type::kView:
        return Kind::kView;
    }
  }
  // In the order of the variant's alternatives.
  constexpr Kind kKinds[] = {Kind::kUndefined, Kind::kNone,     Kind::kBoolean,  Kind::kInteger, Kind::kFloat,
                             Kind::kString,    Kind::kList,     Kind::kIterator, Kind::kRange,   Kind::kDict,
                             Kind::kNamespace, Kind::kFunction, Kind::kLoop};
  static_assert(std::size(kKinds) == std::variant_size_v<decltype(data_)>);
  return kKinds[data_.index()];
}

std::string Value::undefined_hint() const {
  const auto& hint = std::get<UndefinedPointer>(data_);
  return hint == nullptr ? "the value is undefined" : *hint;
}

bool Value::same_object(const Value& other) const {
  if (kind() != other.kind()) {
    return false;
  }
  switch (kind()) {
    case Kind::kNone:
    case Kind::kBoolean:
    case Kind::kInteger:
    case Kind::kFloat:
    case Kind::kString:
      return equal(*this, other);
    default:
      return data_ == other.data_;
  }
}

Extent Value::extent() const {
  switch (kind()) {
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView:
      return sequence().extent;
    case Kind::kIterator:
      return as_iterator().extent;
    case Kind::kDict:
      return as_dict().extent();
    case Kind::kFunction:
      return as_function().extent;
    case Kind::kLoop:
      return as_loop().extent;
    default:
      return {};
  }
}

bool Loop::has(std::size_t position) {
  while (position >= items.size()) {
    if (fetch == nullptr || !fetch()) {
      return false;
    }
  }
  return true;
}

void Dict::set(const Value& key, Value value) {
  std::string encoded = encoded_key(key);
  extent_ = including(including(extent_, value.extent()), key.extent());
  for (std::size_t i = 0; i < entries_.size() && entries_.size() <= kIndexedSize; ++i) {
    if (equal(entries_[i].first, key)) {
      entries_[i].second = std::move(value);
      return;
    }
  }
  if (const auto found = index_.find(encoded); found != index_.end()) {
    entries_[found->second].second = std::move(value);
    return;
  }
  entries_.emplace_back(key, std::move(value));
  if (entries_.size() == kIndexedSize + 1) {
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      index_.emplace(encoded_key(entries_[i].first), i);
    }
  } else if (entries_.size() > kIndexedSize + 1) {
    index_.emplace(std::move(encoded), entries_.size() - 1);
  }
}

const Value* Dict::find_encoded(const std::string& encoded) const {
  const auto found = index_.find(encoded);
  return found == index_.end() ? nullptr : &entries_[found->second].second;
}

const Value* Dict::find(const Value& key) const {
  const std::string encoded = encoded_key(key);
  if (entries_.size() > kIndexedSize) {
    return find_encoded(encoded);
  }
  const auto found =
      std::find_if(entries_.begin(), entries_.end(), [&](const auto& entry) { return equal(entry.first, key); });
  return found == entries_.end() ? nullptr : &found->second;
}

const Value* Dict::find(std::string_view key) const {
  if (entries_.size() > kIndexedSize) {
    return find_encoded(fmt::format("s{}:{}", key.size(), key));
  }
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const auto& entry) {
    return entry.first.is(Kind::kString) && entry.first.text() == key;
  });
  return found == entries_.end() ? nullptr : &found->second;
}

}  // namespace flyover::data::jinja
