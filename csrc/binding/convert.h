// JavaScript values to and from the C++ types contracts are written in. A value that does not fit is an Error naming
// the op, the argument, what was expected and what came.
#pragma once

#include <napi.h>

#include <string>
#include <tuple>
#include <vector>

#include "binding/environment.h"
#include "core/device.h"
#include "core/optional_tensor.h"

namespace flowmap::binding {

// One argument of one call, for messages.
struct ArgumentName {
  const char* op;
  const char* argument;
};

std::string describe(napi_env env, napi_value value);
[[noreturn]] void failArgument(napi_env env, ArgumentName name, const char* expected, napi_value value);

double toDouble(napi_env env, ArgumentName name, napi_value value);
int64_t toInteger(napi_env env, ArgumentName name, napi_value value);
bool toBool(napi_env env, ArgumentName name, napi_value value);
std::string toString(napi_env env, ArgumentName name, napi_value value);
DType toDType(napi_env env, ArgumentName name, napi_value value);
Shape toShape(napi_env env, ArgumentName name, napi_value value);
Tensor toTensor(napi_env env, ArgumentName name, napi_value value);
OptionalTensor toOptionalTensor(napi_env env, ArgumentName name, napi_value value);
std::vector<Tensor> toTensors(napi_env env, ArgumentName name, napi_value value);
std::vector<OptionalTensor> toOptionalTensors(napi_env env, ArgumentName name, napi_value value);
std::vector<int64_t> toIntegers(napi_env env, ArgumentName name, napi_value value);
std::vector<double> toDoubles(napi_env env, ArgumentName name, napi_value value);

template <class T>
T fromJs(napi_env env, ArgumentName name, napi_value value) {
  if constexpr (std::is_same_v<T, double>)
    return toDouble(env, name, value);
  else if constexpr (std::is_same_v<T, int64_t>)
    return toInteger(env, name, value);
  else if constexpr (std::is_same_v<T, bool>)
    return toBool(env, name, value);
  else if constexpr (std::is_same_v<T, std::string>)
    return toString(env, name, value);
  else if constexpr (std::is_same_v<T, DType>)
    return toDType(env, name, value);
  else if constexpr (std::is_same_v<T, Shape>)
    return toShape(env, name, value);
  else if constexpr (std::is_same_v<T, Tensor>)
    return toTensor(env, name, value);
  else if constexpr (std::is_same_v<T, OptionalTensor>)
    return toOptionalTensor(env, name, value);
  else if constexpr (std::is_same_v<T, std::vector<Tensor>>)
    return toTensors(env, name, value);
  else if constexpr (std::is_same_v<T, std::vector<OptionalTensor>>)
    return toOptionalTensors(env, name, value);
  else if constexpr (std::is_same_v<T, std::vector<double>>)
    return toDoubles(env, name, value);
  else
    return toIntegers(env, name, value);
}

// Converts a parameter of type `P` (as written in the contract's signature). A Napi::Value is left as it came.
template <class P>
decltype(auto) convertArgument(napi_env env, ArgumentName name, napi_value value) {
  using T = std::remove_cvref_t<P>;
  if constexpr (std::is_same_v<T, Device>)
    return deviceByName(name.op, toString(env, name, value));
  else if constexpr (std::is_same_v<T, Napi::Value>)
    return Napi::Value(env, value);
  else
    return fromJs<T>(env, name, value);
}

napi_value toJs(napi_env env, double value);
napi_value toJs(napi_env env, bool value);
napi_value toJs(napi_env env, const std::string& value);
napi_value toJs(napi_env env, const Tensor& value);  // a handle, or null for an absent tensor
napi_value toJs(napi_env env, const std::vector<Tensor>& values);
napi_value toJs(napi_env env, const std::vector<double>& values);

template <class... T>
napi_value toJs(napi_env env, const std::tuple<T...>& values) {
  napi_value array;
  napi_create_array_with_length(env, sizeof...(T), &array);
  uint32_t index = 0;
  std::apply([&](const auto&... value) { (napi_set_element(env, array, index++, toJs(env, value)), ...); }, values);
  return array;
}

}  // namespace flowmap::binding
