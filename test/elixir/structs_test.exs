defmodule Decimal do
  # What the package of that name has.
  defstruct [:sign, :coef, :exp]
end

defmodule Shape do
  defstruct [:name, :sides, at: nil]
end

defmodule StructsTest do
  @moduledoc "What Elixir's values are in Python, and what comes back."
  use ExUnit.Case

  defp shown(value, options \\ []) do
    {:ok, shown} = :py.call(:walked, :shown, [value], %{}, options)
    shown
  end

  defp back(value, options \\ []) do
    {:ok, value} = :py.call(:walked, :back, [value], %{}, options)
    value
  end

  test "dates and times" do
    assert shown(~D[2026-11-25]) == {"date", "datetime.date(2026, 11, 25)"}
    assert shown(~T[10:11:12.5]) == {"time", "datetime.time(10, 11, 12, 500000)"}
    assert shown(~N[2026-11-25 10:11:12]) == {"datetime", "datetime.datetime(2026, 11, 25, 10, 11, 12)"}

    assert shown(~U[2026-11-25 10:11:12.000001Z]) ==
             {"datetime", "datetime.datetime(2026, 11, 25, 10, 11, 12, 1, tzinfo=datetime.timezone.utc)"}

    berlin = %{~U[2026-06-25 10:11:12Z] | time_zone: "Europe/Berlin", zone_abbr: "CEST", utc_offset: 3600, std_offset: 3600}
    assert {"datetime", text} = shown(berlin)
    assert text =~ "tzinfo=datetime.timezone(datetime.timedelta(seconds=7200), 'CEST')"

    assert back(~D[2026-11-25]) == "2026-11-25"
    assert Date.from_iso8601!(back(~D[2026-11-25])) == ~D[2026-11-25]
    assert NaiveDateTime.from_iso8601!(back(~N[2026-11-25 10:11:12.5])) == ~N[2026-11-25 10:11:12.500000]
    assert {:ok, ~U[2026-11-25 10:11:12Z], 0} = DateTime.from_iso8601(back(~U[2026-11-25 10:11:12Z]))
    assert {:ok, ~U[2026-06-25 08:11:12Z], 7200} = DateTime.from_iso8601(back(berlin))
  end

  test "decimals, ranges, sets" do
    assert shown(%Decimal{sign: -1, coef: 110, exp: -2}) == {"Decimal", "Decimal('-1.10')"}
    assert shown(%Decimal{sign: 1, coef: :inf, exp: 0}) == {"Decimal", "Decimal('Infinity')"}
    assert back(%Decimal{sign: 1, coef: 110, exp: -2}) == "1.10"
    assert shown(1..10) == {"range", "range(1, 11)"}
    assert shown(10..1//-3) == {"range", "range(10, 0, -3)"}
    assert back(10..1//-3) == [10, 7, 4, 1]
    assert back(1..0//1) == []
    assert shown(MapSet.new([1])) == {"set", "{1}"}
    assert Enum.sort(back(MapSet.new([1, 2]))) == [1, 2]
  end

  test "they are the same anywhere inside a value, and as keys" do
    assert back(%{due: [{~D[2026-11-25], 1..2}]}) == %{due: [{"2026-11-25", [1, 2]}]}
    assert back(%{~D[2026-11-25] => 1}) == %{"2026-11-25" => 1}
    assert shown(%{{MapSet.new([1]), ~D[2026-11-25]} => 1}) ==
             {"dict", "{(frozenset({1}), datetime.date(2026, 11, 25)): 1}"}
    assert {"set", "{datetime.date(2026, 11, 25)}"} = shown(MapSet.new([~D[2026-11-25]]))
  end

  test "with every option" do
    for options <- [[atoms: :str], [binaries: :bytes], [atoms: :str, binaries: :bytes]] do
      assert shown(~D[2026-11-25], options) == {"date", "datetime.date(2026, 11, 25)"}
      assert {"datetime", _} = shown(~U[2026-11-25 10:11:12Z], options)
      assert shown(MapSet.new([1]), options) == {"set", "{1}"}
    end
  end

  test "any other struct is a map, and comes back as the struct" do
    for struct <- [%Shape{name: "box", sides: 4, at: {1, 2}}, URI.parse("http://a.b/c"), Version.parse!("1.2.3")] do
      assert {"dict", _} = shown(struct)
      assert back(struct, pool: :nils) == struct
    end

    assert {:ok, "Elixir.Shape"} = :py.eval("str(s['__struct__'])", s: %Shape{})
    assert {:ok, "box"} = :py.eval("s['name']", s: %Shape{name: "box"})
    assert {:ok, ["str"]} = :py.eval("sorted({type(k).__name__ for k in s})", [s: %Shape{}], atoms: :str)
  end

  setup_all do
    python_path = [Path.join(__DIR__, "python")]
    {:ok, _} = :py.start_pool(:nils, workers: 1, none: nil, python_path: python_path)
    on_exit(fn -> :py.stop_pool(:nils) end)
  end

  test "a struct that Python does not have is a map" do
    for struct <- [%{~D[2026-11-25] | year: -44}, %{~D[2026-11-25] | calendar: Shape}, %{~T[10:11:12] | hour: 25}] do
      assert {"dict", _} = shown(struct)
      assert back(struct) == struct
    end

    assert back(%{__struct__: Date}) == %{__struct__: Date}
  end

  test "a map with text for keys is data, whatever it says" do
    text = Map.new(Map.to_list(~D[2026-11-25]), fn {key, value} -> {to_string(key), value} end)
    assert {"dict", _} = shown(text)
    assert {"dict", _} = shown(text, atoms: :str)
    assert back(text) == text
  end

  test "nil, strings, charlists, keyword lists" do
    assert shown(nil) == {"NoneType", "None"}
    assert back(nil) == :none
    assert back(nil, pool: :nils) == nil
    assert shown("text") == {"str", "'text'"}
    assert shown('text') == {"list", "[116, 101, 120, 116]"}
    assert back('text') == 'text'
    assert back(a: 1, b: nil) == [a: 1, b: :none]
    assert {:ok, %{a: 1}} = :py.eval("dict(pairs)", pairs: [a: 1])
    assert {:ok, [3, 2, 1]} = :py.call(:builtins, :sorted, [[1, 2, 3]], reverse: true)
  end
end
