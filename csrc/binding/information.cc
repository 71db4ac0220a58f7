#include "binding/information.h"

#include <utility>

#include "binding/convert.h"

namespace flowmap::binding {
namespace {

// A program whose shapes never repeat must not keep them all.
constexpr size_t kMostKept = 4096;

napi_value make(napi_env env, const Tensor& x) {
  napi_value shape = nullptr, object = nullptr;
  if (napi_create_array_with_length(env, x.rank(), &shape) != napi_ok) return nullptr;
  for (int axis = 0; axis < x.rank(); ++axis) {
    napi_set_element(env, shape, axis, toJs(env, static_cast<double>(x.shape()[axis])));
  }
  if (napi_object_freeze(env, shape) != napi_ok || napi_create_object(env, &object) != napi_ok) return nullptr;
  napi_set_named_property(env, object, "shape", shape);
  napi_set_named_property(env, object, "dtype", toJs(env, std::string(dtypeName(x.dtype()))));
  napi_set_named_property(env, object, "device", toJs(env, x.device().name()));
  return napi_object_freeze(env, object) == napi_ok ? object : nullptr;
}

}  // namespace

size_t Information::Hash::operator()(const Key& key) const {
  size_t hash = std::hash<const void*>()(key.device) ^ static_cast<size_t>(key.dtype);
  for (int64_t size : key.shape) hash = hash * 0x9E3779B97F4A7C15u + static_cast<size_t>(size) + 1;
  return hash ^ hash >> 32;
}

napi_value Information::of(napi_env env, const Tensor& x) {
  Key key{x.dtype(), &x.device(), x.shape()};
  if (const auto found = made_.find(key); found != made_.end()) return found->second.Value();
  const napi_value object = make(env, x);
  if (object == nullptr) return nullptr;
  if (made_.size() >= kMostKept) made_.clear();
  made_.emplace(std::move(key), Napi::Persistent(Napi::Object(env, object)));
  return object;
}

}  // namespace flowmap::binding
