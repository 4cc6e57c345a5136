// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/jinja/value.h"

namespace quern::jinja {

void Value::release() { object_->heap->release(object_); }

bool Value::is_callable() const {
  switch (kind_) {
    case Kind::macro:
    case Kind::builtin:
    case Kind::method:
    case Kind::joiner:
    case Kind::loop:
      return true;
    // Undefined has a __call__ that raises, so Python calls it callable.
    case Kind::undefined:
      return true;
    default:
      return false;
  }
}

const Text& Value::text() const { return as<StringObject>().text; }

size_t StringObject::chars() const {
  if (chars_ == SIZE_MAX) chars_ = count_chars(text.view());
  return chars_;
}

int64_t RangeObject::length() const {
  // In unsigned arithmetic: the distance of two int64 may not fit one.
  if (step > 0)
    return start >= stop ? 0
                         : static_cast<int64_t>((static_cast<uint64_t>(stop) - static_cast<uint64_t>(start) - 1) /
                                                static_cast<uint64_t>(step)) +
                               1;
  return start <= stop ? 0
                       : static_cast<int64_t>((static_cast<uint64_t>(start) - static_cast<uint64_t>(stop) - 1) /
                                              (0 - static_cast<uint64_t>(step))) +
                             1;
}

void Heap::adopt(Object* object, int64_t bytes) {
  object->heap = this;
  object->next = live_;
  if (live_) live_->previous = object;
  live_ = object;
  charge(*object, bytes);
}

void Heap::unlink(Object* object) {
  (object->previous ? object->previous->next : live_) = object->next;
  if (object->next) object->next->previous = object->previous;
  object->previous = object->next = nullptr;
}

void Heap::release(Object* object) {
  unlink(object);
  object->next = doomed_;
  doomed_ = object;
  if (releasing_) return;
  // One loop instead of destructors calling destructors: a list nested a million times deep must not use the stack.
  releasing_ = true;
  while (doomed_) {
    Object* dead = doomed_;
    doomed_ = dead->next;
    used_bytes_ -= dead->charged_bytes;
    delete dead;
  }
  releasing_ = false;
}

Heap::~Heap() {
  // What is still here is part of a cycle. Each object lets go of the others; the last reference frees it.
  std::vector<Value> hold;
  for (Object* o = live_; o; o = o->next) hold.emplace_back(o);
  for (Value& value : hold) value.object()->drop_references();
}

std::string_view type_name(const Value& value) {
  switch (value.kind()) {
    case Kind::missing:
      return "missing";
    case Kind::none:
      return "NoneType";
    case Kind::boolean:
      return "bool";
    case Kind::integer:
    case Kind::big_integer:
      return "int";
    case Kind::floating:
      return "float";
    case Kind::undefined:
      return "Undefined";
    case Kind::string:
      return value.as<StringObject>().markup ? "Markup" : "str";
    case Kind::bytes:
      return "bytes";
    case Kind::list:
      return "list";
    case Kind::tuple:
      return "tuple";
    case Kind::dict:
      return "dict";
    case Kind::range:
      return "range";
    case Kind::view:
      switch (value.as<ViewObject>().part) {
        case ViewObject::Part::keys:
          return "dict_keys";
        case ViewObject::Part::values:
          return "dict_values";
        case ViewObject::Part::items:
          return "dict_items";
      }
      return "dict view";
    case Kind::generator:
      return "generator";
    case Kind::name_space:
      return "Namespace";
    case Kind::macro:
      return "Macro";
    case Kind::builtin:
      return "function";
    case Kind::method:
      return "builtin_function_or_method";
    case Kind::loop:
      return "LoopContext";
    case Kind::cycler:
      return "Cycler";
    case Kind::joiner:
      return "Joiner";
    case Kind::self:
      return "TemplateReference";
    case Kind::frame:
      return "frame";
  }
  return "?";
}

}  // namespace quern::jinja
