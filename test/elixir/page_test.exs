defmodule PageTest do
  @moduledoc "docs/elixir.md does what it says, block by block, as one session."
  use ExUnit.Case

  {file, dir} = Application.compile_env!(:erlang_python_elixir, :page)
  @file_name file
  @external_resource file
  blocks = file |> File.read!() |> Page.blocks()
  for block <- blocks, name = Page.mark(block, "defines"), do: File.write!(Path.join(dir, name), block.text)

  # One process runs all blocks: what a block has started, and links to it, outlasts it.
  defp in_session(session, fun) do
    step = fn bindings ->
      try do
        {:ok, fun.(bindings)}
      catch
        kind, reason -> {{kind, reason, __STACKTRACE__}, bindings}
      end
    end

    case Agent.get_and_update(session, step, :infinity) do
      :ok -> :ok
      {kind, reason, stack} -> :erlang.raise(kind, reason, stack)
    end
  end

  setup_all do
    {:ok, session} = Agent.start_link(fn -> [] end)
    %{session: session}
  end

  # Those with a behaviour of a package are in stages_test.exs.
  for block <- blocks, block.language == "elixir", is_nil(Page.mark(block, "no-run")), is_nil(Page.mark(block, "needs")) do
    @block block

    test "the block at line #{block.line}", %{session: session} do
      if Page.mark(@block, "config") do
        [erlang_python: [pools: pools]] = Config.Reader.eval!(@file_name, @block.text)
        for {_name, options} <- pools, do: assert(%{} = :py_options.pool(options))
      else
        in_session(session, &Page.run(@block, @file_name, &1))
      end
    end
  end
end
