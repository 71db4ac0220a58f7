// Calls of device functions, which are parsed in place; and of the runtime's __assertfail.
#include <algorithm>

#include "kernel_parser.h"
#include "report.h"

namespace flowmap::simt {

void KernelParser::parseCall(Statement& statement, Slot guard, uint32_t skipIf) {
  const auto names = [&] {
    std::vector<std::string> list;
    if (!lexer_.eat("(")) return list;
    while (!lexer_.eat(")")) {
      list.push_back(lexer_.word());
      lexer_.eat(",");
    }
    return list;
  };
  const std::vector<std::string> results = names();
  if (!results.empty()) lexer_.need(",");
  const std::string name = lexer_.word();
  std::vector<std::string> arguments;
  if (lexer_.eat(",")) arguments = names();
  statement.text = "call " + name;
  lexer_.need(";");
  if (name == "__assertfail") {
    statement.opcode = "__assertfail";
    statement.modifiers.clear();
    for (const std::string& argument : arguments) {
      Operand operand = named(argument);
      operand.kind = Operand::Kind::address;
      statement.operands.push_back(operand);
    }
    emit(statement, guard, skipIf);
    return;
  }
  // A guarded call jumps around the function's body.
  const std::string after = format("$after%d", inlined_);
  openScope();
  if (guard != kTrueSlot) emitBranch(after, guard, skipIf ^ 1u);
  inlineFunction(name, results, arguments);
  scopes_.back().labels[after] = kernel_.code.size();
  closeScope();
}

void KernelParser::inlineFunction(const std::string& name, const std::vector<std::string>& results,
                                  const std::vector<std::string>& arguments) {
  const auto found = moduleScope_.functions.find(name);
  if (found == moduleScope_.functions.end()) lexer_.fail("call of an unknown function " + name);
  if (std::find(inlining_.begin(), inlining_.end(), name) != inlining_.end()) lexer_.fail("recursive call of " + name);
  const Function& function = found->second;
  if (function.results.size() != results.size() || function.parameters.size() != arguments.size()) {
    lexer_.fail("call of " + name + " with other arguments than declared");
  }
  const auto bind = [&](const std::vector<std::string>& formals, const std::vector<std::string>& actuals) {
    std::vector<Variable> variables;
    for (const std::string& actual : actuals) {
      Variable* variable = findVariable(actual);
      if (!variable) lexer_.fail("unknown argument " + actual);
      variables.push_back(*variable);
    }
    for (size_t i = 0; i < formals.size(); ++i) scopes_.back().variables[formals[i]] = variables[i];
  };
  const Lexer::Place back = lexer_.place();
  const char* whereBack = where_;
  const std::string end = format("$return%d", inlined_++);
  openScope();
  bind(function.results, results);
  bind(function.parameters, arguments);
  inlining_.push_back(name);
  returnLabels_.push_back(end);
  lexer_.moveTo(function.body);
  lexer_.need("{");
  parseBlock();
  returnLabels_.pop_back();
  inlining_.pop_back();
  scopes_.back().labels[end] = kernel_.code.size();
  closeScope();
  lexer_.moveTo(back);
  where_ = whereBack;
}

}  // namespace flowmap::simt
