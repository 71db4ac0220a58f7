// Makes a C++ function callable from JavaScript: `bind(exports, "mul", {"a", "b"}, &ops::mul)`. Parameter types decide
// the conversions, a C++ Error becomes the typed JavaScript error, and nothing else may leave the call.
#pragma once

#include <array>
#include <memory>
#include <type_traits>

#include "binding/convert.h"

namespace flowmap::binding {

template <class F>
struct Signature : Signature<decltype(&F::operator())> {};
template <class R, class... P>
struct Signature<R (*)(P...)> {
  using Result = R;
  using Parameters = std::tuple<P...>;
};
template <class F, class R, class... P>
struct Signature<R (F::*)(P...) const> {
  using Result = R;
  using Parameters = std::tuple<P...>;
};

template <class F>
class Bound final : public BoundBase {
 public:
  using Result = typename Signature<F>::Result;
  using Parameters = typename Signature<F>::Parameters;
  static constexpr size_t kCount = std::tuple_size_v<Parameters>;

  Bound(const char* op, std::array<const char*, kCount> names, F function)
      : op_(op), names_(names), function_(std::move(function)) {}

  static napi_value call(napi_env env, napi_callback_info info) {
    std::array<napi_value, kCount + 1> values{};  // at least one: zero-length arrays have no data
    size_t count = kCount;
    void* data = nullptr;
    napi_get_cb_info(env, info, &count, values.data(), nullptr, &data);
    const auto& self = *static_cast<const Bound*>(data);
    try {
      return self.invoke(env, values, std::make_index_sequence<kCount>{});
    } catch (const Error& error) {
      napi_throw(env, Environment::of(env).makeError(error));
    } catch (const Napi::Error& error) {
      napi_throw(env, error.Value());  // the method of Napi::Error throws again in a thread being terminated
    } catch (const std::bad_alloc&) {
      napi_throw(env, Environment::of(env).makeError(Error(ErrorCode::OutOfMemory, self.op_, "out of host memory")));
    } catch (const std::exception& error) {
      napi_throw(env, Environment::of(env).makeError(Error(ErrorCode::Internal, self.op_, error.what())));
    }
    return nullptr;
  }

 private:
  template <size_t... I>
  napi_value invoke(napi_env env, const std::array<napi_value, kCount + 1>& values, std::index_sequence<I...>) const {
    // Braces: conversions happen, and so fail, from the first argument to the last.
    const std::tuple<decltype(convertArgument<std::tuple_element_t<I, Parameters>>(env, {}, nullptr))...> arguments{
        convertArgument<std::tuple_element_t<I, Parameters>>(env, ArgumentName{op_, names_[I]}, values[I])...};
    if constexpr (std::is_void_v<Result>) {
      std::apply(function_, arguments);
      return nullptr;
    } else if constexpr (std::is_same_v<Result, napi_value>) {
      return std::apply(function_, arguments);
    } else {
      return toJs(env, std::apply(function_, arguments));
    }
  }

  const char* op_;
  std::array<const char*, kCount> names_;
  F function_;
};

// What JavaScript calls a function by, and what errors call it where that differs.
struct BoundName {
  BoundName(const char* name) : name(name), op(name) {}
  BoundName(const char* name, const char* op) : name(name), op(op) {}
  const char* name;
  const char* op;
};

template <class F>
void bind(Napi::Object exports, BoundName name,
          std::array<const char*, std::tuple_size_v<typename Signature<F>::Parameters>> names, F function) {
  const napi_env env = exports.Env();
  auto bound = std::make_unique<Bound<F>>(name.op, names, std::move(function));
  napi_value value;
  napi_create_function(env, name.name, NAPI_AUTO_LENGTH, &Bound<F>::call, bound.get(), &value);
  napi_set_named_property(env, exports, name.name, value);
  Environment::of(env).own(std::move(bound));
}

}  // namespace flowmap::binding
