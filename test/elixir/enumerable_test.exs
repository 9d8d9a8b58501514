defmodule EnumerableTest do
  @moduledoc "Enum and Stream over :py.enumerable, which is a function."
  use ExUnit.Case

  defp numbers(options \\ []), do: :py.enumerable(:walked, :numbers, [self()], options)

  defp begins_and_closes do
    assert_receive :begins, 5000
    assert_receive :closed, 5000
  end

  defp messages, do: elem(Process.info(self(), :message_queue_len), 1)

  test "Enum walks to the end" do
    range = :py.enumerable(:builtins, :range, [5])
    assert Enum.to_list(range) == [0, 1, 2, 3, 4]
    assert Enum.sum(range) == 10
    assert Enum.count(range) == 5
    assert Enum.member?(range, 3)
    assert Enum.at(range, 2) == 2
    assert Enum.map(range, &(&1 * 2)) == [0, 2, 4, 6, 8]
    assert Enum.reduce_while(range, 0, &if(&1 < 3, do: {:cont, &2 + &1}, else: {:halt, &2})) == 3
    assert Enum.slice(range, 1..2) == [1, 2]
    assert Enum.into(range, MapSet.new()) == MapSet.new(0..4)
    assert for(n <- range, rem(n, 2) == 0, do: n) == [0, 2, 4]
    assert Enum.to_list(:py.enumerable_eval("(x * a for x in range(3))", a: 2)) == [0, 2, 4]
    assert messages() == 0
  end

  test "take closes the generator" do
    assert Enum.take(numbers(), 3) == [0, 1, 2]
    begins_and_closes()
    assert numbers() |> Stream.take(2) |> Enum.to_list() == [0, 1]
    begins_and_closes()
    assert Enum.take(numbers(), 0) == []
    refute_received :begins
  end

  test "each walk starts the generator anew" do
    numbers = numbers(take: 2)
    assert Enum.to_list(numbers) == [0, 1]
    assert Enum.to_list(numbers) == [0, 1]
    begins_and_closes()
    begins_and_closes()
  end

  test "zip, in both orders and with itself" do
    assert Enum.zip(numbers(), [:a, :b]) == [{0, :a}, {1, :b}]
    begins_and_closes()
    assert Enum.zip([:a, :b], numbers()) == [{:a, 0}, {:b, 1}]
    begins_and_closes()
    assert Stream.zip(numbers(), numbers()) |> Enum.take(2) == [{0, 0}, {1, 1}]
    begins_and_closes()
    begins_and_closes()
    assert Enum.zip_with([numbers(), 1..2], &Enum.sum/1) == [1, 3]
    begins_and_closes()
    assert messages() == 0
  end

  test "chunk_every, flat_map, transform, concat, dedup, with_index" do
    assert numbers() |> Stream.chunk_every(2) |> Enum.take(2) == [[0, 1], [2, 3]]
    begins_and_closes()
    assert numbers() |> Stream.flat_map(&[&1, -&1]) |> Enum.take(4) == [0, 0, 1, -1]
    begins_and_closes()
    nested = Stream.flat_map([1, 2], fn n -> :py.enumerable(:builtins, :range, [n]) end)
    assert Enum.to_list(nested) == [0, 0, 1]

    running = Stream.transform(numbers(), 0, fn n, sum -> if n > 3, do: {:halt, sum}, else: {[sum + n], sum + n} end)
    assert Enum.to_list(running) == [0, 1, 3, 6]
    begins_and_closes()
    assert Stream.concat([:first], numbers()) |> Enum.take(3) == [:first, 0, 1]
    begins_and_closes()
    assert numbers() |> Stream.map(&div(&1, 2)) |> Stream.dedup() |> Stream.with_index() |> Enum.take(2) == [{0, 0}, {1, 1}]
    begins_and_closes()
    assert numbers() |> Stream.take_while(&(&1 < 3)) |> Enum.to_list() == [0, 1, 2]
    begins_and_closes()
    assert messages() == 0
  end

  test "Task.async_stream" do
    squares = :py.enumerable(:builtins, :range, [20]) |> Task.async_stream(&(&1 * &1), max_concurrency: 4)
    assert Enum.map(squares, fn {:ok, n} -> n end) == Enum.map(0..19, &(&1 * &1))
    assert numbers() |> Task.async_stream(& &1) |> Enum.take(2) == [ok: 0, ok: 1]
    begins_and_closes()
  end

  test "an exception of the consumer closes the generator" do
    assert_raise RuntimeError, "enough", fn -> Enum.each(numbers(), fn n -> if n == 3, do: raise("enough") end) end
    begins_and_closes()
    assert catch_throw(Enum.each(numbers(), &throw/1)) == 0
    begins_and_closes()
    assert messages() == 0
  end

  test "an exception of Python is an error with its class and message" do
    error = assert_raise ErlangError, ~r/ValueError.*no more/, fn -> Enum.to_list(:py.enumerable(:walked, :fail, [2])) end
    assert error.original == {:ValueError, "no more"}
    assert Enum.take(:py.enumerable(:walked, :fail, [2]), 2) == [0, 1]
  end

  test "a continuation is refused in another process, by name" do
    {:suspended, 0, continue} = Enumerable.reduce(numbers(), {:cont, nil}, fn n, _ -> {:suspend, n} end)
    task = Task.async(fn -> catch_error(continue.({:cont, nil})) end)
    assert {:not_owner, reference} = Task.await(task)
    assert is_reference(reference)
    assert {:halted, :end} = continue.({:halt, :end})
    begins_and_closes()
  end

  test "options are a keyword list" do
    assert Enum.to_list(:py.enumerable(:builtins, :sorted, [[2, 3, 1]], kwargs: [reverse: true])) == [3, 2, 1]
    assert_raise ErlangError, ~r/badopt/, fn -> numbers(widnow: 1) end
  end

  @tag :figures
  test "values a second" do
    count = 500_000
    range = :py.enumerable(:builtins, :range, [count])

    resource =
      Stream.resource(
        fn -> elem(:py.stream_start(:builtins, :range, [count]), 1) end,
        fn ref ->
          case :py.stream_next(ref) do
            {:ok, n} -> {[n], ref}
            :done -> {:halt, ref}
          end
        end,
        fn _ -> :ok end
      )

    for {name, source} <- [{"py.enumerable", range}, {"Stream.resource over py.stream_next", resource}] do
      best = Enum.min(for _ <- 1..3, do: elem(:timer.tc(fn -> Enum.sum(source) end), 0))
      IO.puts("#{name}: #{div(count * 1_000_000, best)} values a second")
    end
  end
end
