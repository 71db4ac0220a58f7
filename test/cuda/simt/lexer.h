// The characters of a PTX text: skips space and comments, counts lines, cuts words and numbers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace flowmap::simt {

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  struct Place {
    size_t at = 0;
    uint32_t line = 1;
  };
  Place place() const { return {at_, line_}; }
  void moveTo(Place place) { at_ = place.at, line_ = place.line; }
  uint32_t line() const { return line_; }

  void skipSpace();
  bool atEnd();
  char peek();  // after space; 0 at the end
  bool eat(std::string_view token);
  void need(std::string_view token);
  /** A word of letters, digits, `_`, `.`, `$`, `%` and `::`. */
  std::string word();
  /** An integer or 0f…/0d… constant, as bits. */
  uint64_t number();
  bool atNumber();
  std::string quoted();
  std::string restOfLine();
  void skipBraces();  // past a balanced { … }
  void skipPast(char end);
  std::string_view between(Place from) const { return text_.substr(from.at, at_ - from.at); }
  [[noreturn]] void fail(const std::string& what) const;

 private:
  std::string_view text_;
  size_t at_ = 0;
  uint32_t line_ = 1;
};

}  // namespace flowmap::simt
