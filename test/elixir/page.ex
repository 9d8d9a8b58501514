defmodule Page do
  @moduledoc """
  The fenced code blocks of a Markdown page, each with the HTML comments directly above it.

  Marks as in test/support/test_doc_session.erl: `no-run: reason`, `defines: file`; and `config`, for what
  config/config.exs holds, and `needs: Module`, for code with a behaviour that stand_ins.ex may have to stand in for.
  """
  import ExUnit.Assertions

  def blocks(text) do
    text |> String.split("\n") |> Enum.with_index(1) |> outside([], [])
  end

  defp outside([], _marks, blocks), do: Enum.reverse(blocks)

  defp outside([{line, number} | rest], marks, blocks) do
    case String.trim(line) do
      "```" <> language ->
        {inside, [_end | rest]} = Enum.split_while(rest, fn {line, _} -> String.trim(line) != "```" end)
        text = Enum.map_join(inside, fn {line, _} -> line <> "\n" end)
        block = %{line: number + 1, language: language, marks: Enum.reverse(marks), text: text}
        outside(rest, [], [block | blocks])

      "<!--" <> comment ->
        outside(rest, [comment |> String.trim_trailing("-->") |> String.trim() | marks], blocks)

      "" ->
        outside(rest, marks, blocks)

      _ ->
        outside(rest, [], blocks)
    end
  end

  @doc "What follows the mark of a block, or nil."
  def mark(block, name) do
    Enum.find_value(block.marks, fn mark ->
      if mark == name, do: "", else: if(String.starts_with?(mark, name <> ": "), do: String.replace_prefix(mark, name <> ": ", ""))
    end)
  end

  @doc "Compiles the blocks that need a package. A callback of another name or arity is a warning, and so an error."
  def compile(file) do
    for block <- file |> File.read!() |> blocks(), needs = mark(block, "needs") do
      stands_in = Path.basename("#{Module.concat([needs]).module_info(:compile)[:source]}") == "stand_ins.ex"
      if stands_in, do: IO.puts("Compiled with a stand-in for #{needs}: the block at line #{block.line}")
      warnings = ExUnit.CaptureIO.capture_io(:stderr, fn -> run(block, file, []) end)
      assert warnings == ""
    end
  end

  @doc "Evaluates a block; checks what a last line `#=> value` says. Returns the bindings after it."
  def run(block, file, bindings) do
    {value, bindings} = Code.eval_string(block.text, bindings, file: file, line: block.line)

    case Regex.run(~r/^#=> (.*)\n\z/m, block.text) do
      nil ->
        :ok

      [_, expected] ->
        {expected, _} = Code.eval_string(expected, bindings)
        assert value == expected
    end

    bindings
  end
end
