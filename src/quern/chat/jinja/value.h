// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "quern/base/result.h"
#include "quern/chat/jinja/text.h"

namespace quern::jinja {

class Heap;
struct Builtin;
struct MacroCode;

/// `missing` is no value of the language: a variable not set, an argument not given.
enum class Kind : uint8_t {
  missing,
  none,
  boolean,
  integer,
  floating,  // held in the Value
  undefined,
  big_integer,
  string,
  bytes,
  list,
  tuple,
  dict,
  range,
  view,
  generator,  // held in an object
  name_space,
  macro,
  builtin,
  method,
  loop,
  cycler,
  joiner,
  self,
  frame,
};

/// What lives on the heap of one rendering. Counted references; the heap also lists all of its objects, so that cycles
/// end with it.
struct Object {
  explicit Object(Kind k) : kind(k) {}
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object() = default;
  virtual void drop_references() {}  ///< lets go of every other object; ends cycles

  const Kind kind;
  uint32_t references = 0;
  int64_t charged_bytes = 0;
  Heap* heap = nullptr;
  Object* previous = nullptr;
  Object* next = nullptr;
};

/// A value of the template language: small ones inside, others as a counted reference. Lists, dicts and namespaces are
/// shared, as in Python.
class Value {
 public:
  Value() = default;
  explicit Value(Object* object) : kind_(object->kind), object_(object) { ++object->references; }
  Value(const Value& other) : kind_(other.kind_), integer_(other.integer_) {
    if (holds_object()) ++object_->references;
  }
  Value(Value&& other) noexcept : kind_(std::exchange(other.kind_, Kind::missing)), integer_(other.integer_) {}
  Value& operator=(Value other) noexcept {
    std::swap(kind_, other.kind_);
    std::swap(integer_, other.integer_);
    return *this;
  }
  ~Value() {
    if (holds_object() && --object_->references == 0) release();
  }

  static Value none() { return Value(Kind::none, 0); }
  static Value boolean(bool b) { return Value(Kind::boolean, b ? 1 : 0); }
  static Value integer(int64_t i) { return Value(Kind::integer, i); }
  static Value floating(double d) {
    Value v(Kind::floating, 0);
    v.floating_ = d;
    return v;
  }

  Kind kind() const { return kind_; }
  bool is(Kind k) const { return kind_ == k; }
  bool given() const { return kind_ != Kind::missing; }
  bool is_integral() const { return kind_ == Kind::integer || kind_ == Kind::boolean; }  ///< as Python: bool is an int
  bool is_number() const { return is_integral() || kind_ == Kind::floating || kind_ == Kind::big_integer; }
  bool is_callable() const;

  bool as_bool() const { return integer_ != 0; }
  int64_t as_integer() const { return integer_; }
  double as_floating() const { return floating_; }
  Object* object() const { return object_; }
  bool holds_object() const { return kind_ > Kind::floating; }
  template <typename T>
  T& as() const {
    return static_cast<T&>(*object_);
  }
  const Text& text() const;  ///< of a string or bytes
  std::string_view view() const { return text().view(); }

 private:
  Value(Kind kind, int64_t bits) : kind_(kind), integer_(bits) {}
  void release();

  Kind kind_ = Kind::missing;
  union {
    int64_t integer_ = 0;
    double floating_;
    Object* object_;
  };
};

using Values = std::vector<Value>;
using NamedValues = std::vector<std::pair<std::string, Value>>;

struct UndefinedObject : Object {
  explicit UndefinedObject(std::string why) : Object(Kind::undefined), message(std::move(why)) {}
  std::string message;  ///< what an operation on it reports
};

struct BigIntegerObject : Object {
  explicit BigIntegerObject(std::string d) : Object(Kind::big_integer), digits(std::move(d)) {}
  std::string digits;  ///< with its sign; only ever carried, compared and printed
};

/// A string, or (kind `bytes`) its UTF-8 encoding.
struct StringObject : Object {
  StringObject(Kind k, Text t, bool is_markup) : Object(k), text(std::move(t)), markup(is_markup) {}
  size_t chars() const;  ///< length in code points
  const Text text;
  const bool markup;  ///< passed through `safe` or `escape`: other strings are escaped when joined to it
 private:
  mutable size_t chars_ = SIZE_MAX;
};

struct ListObject : Object {  // also tuples and what is left of a generator
  ListObject(Kind k, Values v) : Object(k), items(std::move(v)) {}
  void drop_references() override { items.clear(); }
  Values items;
};

/// Keys keep the order in which they came; 1, 1.0 and true are one key, as in Python.
struct DictObject : Object {
  DictObject() : Object(Kind::dict) {}
  void drop_references() override { entries.clear(), index.clear(); }
  std::vector<std::pair<Value, Value>> entries;
  std::unordered_multimap<size_t, uint32_t> index;  ///< hash of the key to place; empty while there are few entries
};

struct RangeObject : Object {
  RangeObject(int64_t from, int64_t to, int64_t by) : Object(Kind::range), start(from), stop(to), step(by) {}
  int64_t length() const;
  int64_t start, stop, step;
};

struct ViewObject : Object {
  enum class Part : uint8_t { keys, values, items };
  ViewObject(Value d, Part p) : Object(Kind::view), dict(std::move(d)), part(p) {}
  void drop_references() override { dict = Value(); }
  Value dict;
  Part part;
};

struct NamespaceObject : Object {
  NamespaceObject() : Object(Kind::name_space) {}
  void drop_references() override { attributes.clear(); }
  NamedValues attributes;
};

struct BuiltinObject : Object {
  explicit BuiltinObject(const Builtin& b) : Object(Kind::builtin), builtin(b) {}
  const Builtin& builtin;
};

struct MethodObject : Object {
  MethodObject(Value r, const Builtin& m) : Object(Kind::method), receiver(std::move(r)), method(m) {}
  void drop_references() override { receiver = Value(); }
  Value receiver;
  const Builtin& method;
};

/// A macro, or the body of a call block, with the scope it was written in.
struct MacroObject : Object {
  MacroObject(const MacroCode& c, Value scope) : Object(Kind::macro), code(c), frame(std::move(scope)) {}
  void drop_references() override { frame = Value(); }
  const MacroCode& code;
  Value frame;
};

/// The variables of one scope at work.
struct Frame : Object {
  Frame(size_t slots_count, Value outer) : Object(Kind::frame), slots(slots_count), parent(std::move(outer)) {}
  void drop_references() override { slots.clear(), parent = Value(); }
  Values slots;
  Value parent;  ///< missing for the outermost
};

struct CyclerObject : Object {
  explicit CyclerObject(Values v) : Object(Kind::cycler), items(std::move(v)) {}
  void drop_references() override { items.clear(); }
  Values items;
  size_t position = 0;
};

struct JoinerObject : Object {
  explicit JoinerObject(Value s) : Object(Kind::joiner), separator(std::move(s)) {}
  void drop_references() override { separator = Value(); }
  Value separator;
  bool used = false;
};

struct SelfObject : Object {
  SelfObject() : Object(Kind::self) {}
};

/// The `loop` variable. The interpreter knows how to get the next item.
struct LoopObject : Object {
  LoopObject() : Object(Kind::loop) {}
  /// Reads one more item ahead into `ahead`; false at the end.
  virtual Result<bool> read_ahead() = 0;
  void drop_references() override { current = previous_item = last_changed = Value(), ahead.clear(); }

  int64_t index0 = -1;
  int depth0 = 0;
  bool recursive = false;
  bool changed_called = false;
  Value current, previous_item, last_changed;
  Values ahead;  ///< items fetched and not yet visited, the next one at `ahead_start`
  size_t ahead_start = 0;
};

/// All objects of one rendering and the count of their bytes.
class Heap {
 public:
  Heap() = default;
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;
  ~Heap();

  template <typename T, typename... Args>
  T* make(int64_t payload_bytes, Args&&... args) {
    T* object = new T(std::forward<Args>(args)...);
    adopt(object, static_cast<int64_t>(sizeof(T)) + payload_bytes);
    return object;
  }
  void charge(Object& object, int64_t bytes) { object.charged_bytes += bytes, used_bytes_ += bytes; }
  int64_t used_bytes() const { return used_bytes_; }
  void release(Object* object);

 private:
  void adopt(Object* object, int64_t bytes);
  void unlink(Object* object);

  int64_t used_bytes_ = 0;
  Object* live_ = nullptr;
  Object* doomed_ = nullptr;
  bool releasing_ = false;
};

/// Python's name of the value's type: `str`, `NoneType`, `Undefined`.
std::string_view type_name(const Value& value);

}  // namespace quern::jinja
